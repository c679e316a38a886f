"""Whether a container network does with packets what RFCs and its users expect: of any driver, of any engine."""
