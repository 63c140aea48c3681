version: str
compiler: str
buildtype: str
levels_built: tuple[str, ...]
openmp: int
cpu_level: int
last_cache: int

busy_threads: object

def busy() -> int: ...
def openmp_limit() -> int: ...
def openmp_most() -> int: ...
def processors() -> int: ...
