"""Images in LMDB databases, as BasicSR keeps them."""

from pathlib import Path

from i2i.data.decoded import file_key
from i2i.download import byte_progress, cache_folder
from i2i.errors import InputError
from i2i.files import replacing


def is_lmdb(folder: Path) -> bool:
    return (folder / "data.mdb").is_file()


def unpacked_name(key: str) -> str:
    """What `unpack_lmdb` calls the file of a key."""
    return f"{key.replace('/', '_')}.png"


def unpack_lmdb(folder: Path) -> Path:
    """Write the images of an `.lmdb` folder to files, once; what is there already stays.

    Keys are the images' names without suffix, values the bytes of image files.

    Args:
        folder: holds data.mdb.

    Returns:
        A folder in `i2i.download.cache_folder()`. Its files are named after the keys, with "_" for "/" and all with
        ".png", whatever they hold: the content decides how they are read.

    Raises:
        InputError: the package lmdb is missing, or the database cannot be read.
        OSError: the files cannot be written.
    """
    try:
        import lmdb
    except ImportError as error:
        raise InputError(f"{folder} needs the package lmdb: pip install 'i2i[lmdb]'") from error
    out = cache_folder() / "lmdb" / file_key(folder / "data.mdb", "unpacked")
    out.mkdir(parents=True, exist_ok=True)
    try:
        with (
            lmdb.open(str(folder), readonly=True, lock=False, readahead=False) as database,
            database.begin(buffers=True) as transaction,
            byte_progress(f"Unpacking {folder.name}", total=None) as advance,
        ):
            _check_whole(folder, pages=database.info()["last_pgno"] + 1, page_bytes=database.stat()["psize"])
            for key, value in transaction.cursor():
                file = out / unpacked_name(bytes(key).decode())
                if not file.exists():
                    with replacing(file) as temporary:
                        temporary.write_bytes(value)
                    advance(len(value))
    except (lmdb.Error, UnicodeDecodeError) as error:
        raise InputError(f"{folder} is no readable database of images ({error}); make or copy it anew") from error
    return out


def _check_whole(folder: Path, *, pages: int, page_bytes: int) -> None:
    """Reading beyond the end of the file, which is mapped into memory, would end the process."""
    size = (folder / "data.mdb").stat().st_size
    if size < pages * page_bytes:
        raise InputError(
            f"{folder / 'data.mdb'} is truncated: it has {size:,} of {pages * page_bytes:,} bytes; make or copy it anew"
        )
