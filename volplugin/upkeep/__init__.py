"""The administrator's commands that look after volumes: checks, changes, the trash, the doctor."""
