"""A web page that is a map: the server. All but the command line and the files of a scene need the extra ``app``."""
