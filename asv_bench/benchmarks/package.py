class Import:
    """Import time in a fresh interpreter; NumPy's own is most of it."""

    def timeraw_import(self):
        return "import fastbn"

    def timeraw_import_numpy(self):
        return "import numpy"
