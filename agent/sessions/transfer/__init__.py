"""Sessions that come from a server, are cut or forked here, or are deleted there, because somebody says so."""
