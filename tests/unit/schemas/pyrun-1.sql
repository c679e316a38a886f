BEGIN TRANSACTION;
CREATE TABLE record (kind TEXT, key TEXT, content TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
INSERT INTO "record" VALUES('network','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','{"Name": "blue", "Driver": "pynet"}');
INSERT INTO "record" VALUES('volume','notes','{"Name": "notes", "Driver": "pyvol", "Labels": {"of": "ann"}}');
COMMIT;
PRAGMA user_version = 1;
