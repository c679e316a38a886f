"""A page for browsers of what pynet and pyvol know: it reads their sockets for administrators."""
