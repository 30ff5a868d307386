"""Download a data set, resumably: public archives, unpacked without trusting what is inside, or through the hub's own client."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from dsaml.errors import DsamlError

ARCHIVES = {
    "deam": ("https://cvml.unige.ch/databases/DEAM/", ("DEAM_Annotations.zip", "DEAM_audio.zip")),
    "vgmidi": ("https://github.com/lucasnfe/vgmidi/archive/refs/heads/", ("master.zip",)),
}
"""Base address and files; each archive is unpacked into the folder of its own name."""

MERP = "amaai-lab/MERP"  # on the hub
MERP_PAGE = f"https://huggingface.co/datasets/{MERP}"
MERP_FILES = ["*.parquet", "*.json", "*.csv", "*.md", "audio/*"]  # labels, profiles, the card with its licence, and the audio

SAVED_AS = {"master.zip": "vgmidi-master.zip"}  # as a browser does; the folder in the archive is called so
SAME = {"vgmidi-2": "vgmidi", "merp-filtered": "merp"}  # the same files under another name
TERMS = {
    "deam": "DEAM is for research; its terms are on https://cvml.unige.ch/databases/DEAM/. Cite Aljanaki, Yang and Soleymani, "
    "Developing a benchmark for emotional analysis of music, PLoS ONE 12(3), 2017",
    "vgmidi": "VGMIDI has no licence text: use it for research, do not redistribute it, and cite Ferreira and Whitehead, Learning "
    "to Generate Music with Sentiment, ISMIR 2019. 'python -m dsaml render --root DIR/vgmidi-master' makes audio of its MIDI",
    "merp": "MERP: annotations under CC BY 4.0, music under the Creative Commons licences of its artists (README.md). Cite Koh, "
    "Cheuk, Heung, Agres and Herremans, MERP: A Music Dataset with Emotion Ratings and Raters' Profile Information, Sensors 23(1), "
    "382, 2023",
}
"""Licence and citation, shown with the download."""

ELSEWHERE = {
    "pmemo": "PMEmo has no direct address: get PMEmo2019 as https://github.com/HuiZhangDB/PMEmo says and give the "
    "unpacked folder with --root",
    "live-piano": "the live piano performances have restricted access: ask for the files on https://zenodo.org/records/8375588 "
    "(Time-Varying Emotion Perception Annotations for Live Music Performances, Queen Mary University of London; licence, citation "
    "and newer versions stand there), and give their folder with --root",
    "folder": "a folder is your own data: 'python -m dsaml template DIR' shows its layout",
    "synthetic": "the embedded corpus is generated: 'python -m dsaml synthesize DIR'",
    "stress": "the stress test is generated: 'python -m dsaml synthesize DIR --population continuous'",
}
BLOCK = 1 << 18  # bytes
TIMEOUT = 30  # s without a byte
MAX_FILES = 50_000
MAX_BYTES = 20 * 2**30  # of one unpacked archive
MAX_RATIO = 200  # unpacked / packed of one member; label tables reach about 10

Progress = Callable[[str, int, int], None]
"""Called with (file name, bytes or files so far, the same in all or 0)."""


def _silent(name: str, done: int, total: int) -> None:
    pass


def sha256(path: Path) -> str:
    """Checksum of a file, 64 hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def download(url: str, path: Path, progress: Progress = _silent) -> str:
    """Download a file; what an earlier, broken call left in ``<path>.part`` is continued where the server can.

    ``path`` appears only when complete. Returns its SHA-256.

    Raises
    ------
    DsamlError
        If the server cannot be reached, refuses, or breaks off; the message says how to go on.
    """
    if path.is_file():
        return sha256(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part, tag = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.tag")
    have = part.stat().st_size if part.is_file() and tag.is_file() else 0
    by_hand = f"download it in a browser into {path.parent} and run this command again, it will be unpacked"
    request = urllib.request.Request(url, headers={"User-Agent": "dsaml"})
    if have:  # the tag makes the server start over if the file has changed since
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag.read_text(encoding="utf-8"))
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            resumed = answer.status == 206 and (answer.headers["Content-Range"] or "").startswith(f"bytes {have}-")
            if answer.status == 206 and not resumed:
                raise DsamlError(f"{url}: the server continued at the wrong place; delete {part} and run this again")
            done = have if resumed else 0
            total = done + int(answer.headers["Content-Length"] or 0)
            _remember(tag, answer.headers["ETag"] or answer.headers["Last-Modified"])
            with open(part, "ab" if resumed else "wb") as stream:
                while block := answer.read(BLOCK):
                    stream.write(block)
                    done += len(block)
                    progress(path.name, done, total)
            if answer.headers["Content-Length"] and done < total:
                raise DsamlError(f"{url}: broke off after {done} of {total} bytes; run this again to continue")
    except urllib.error.HTTPError as error:
        if error.code == 416:
            part.unlink(missing_ok=True)
            raise DsamlError(f"{url}: the partial download did not fit and was deleted; run this again") from error
        raise DsamlError(f"{url}: the server answers {error.code} {error.reason}; {by_hand}") from error
    except (TimeoutError, ConnectionError, HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise DsamlError(f"{url}: broke off ({reason}); run this again to continue, or {by_hand}") from error
    except urllib.error.URLError as error:
        raise DsamlError(f"{url}: cannot be reached from here ({error.reason}); {by_hand}") from error
    except OSError as error:
        raise DsamlError(f"{path}: cannot be written ({error.strerror or error}); make room and run this again") from error
    os.replace(part, path)
    tag.unlink(missing_ok=True)
    return sha256(path)


def _remember(tag: Path, value: str | None) -> None:
    if value and not value.startswith("W/"):  # weak tags may not be used for ranges
        tag.write_text(value, encoding="utf-8")
    else:
        tag.unlink(missing_ok=True)


def _dangers(members: Sequence[zipfile.ZipInfo]) -> Iterator[str]:
    """What speaks against unpacking an archive."""
    if len(members) > MAX_FILES:
        yield f"it holds {len(members)} files, more than {MAX_FILES}"
    size = sum(m.file_size for m in members)
    if size > MAX_BYTES:
        yield f"it would unpack to {size / 2**30:.1f} GiB"
    for m in members:
        name = PurePosixPath(m.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in m.filename or ":" in m.filename or not name.parts:
            yield f"'{m.filename}' points outside the folder"
        if stat.S_ISLNK(m.external_attr >> 16):
            yield f"'{m.filename}' is a link"
        if m.file_size > MAX_RATIO * max(m.compress_size, 1024):
            yield f"'{m.filename}' would grow more than {MAX_RATIO} times"
        if m.flag_bits & 1:
            yield f"'{m.filename}' is encrypted"


def unpack(path: Path, folder: Path, progress: Progress = _silent) -> int:
    """Unpack a zip archive into ``folder / <its name>``, or into ``folder`` if the archive holds that name itself.

    Returns
    -------
    int
        Number of files; those that are there already with the right size are left alone.

    Raises
    ------
    DsamlError
        If the archive is damaged, or holds paths that lead outside, links, or far more than it should (a zip bomb): before
        anything is written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
            if danger := next(_dangers(members), None):
                raise DsamlError(f"{path}: refused, nothing was unpacked, because {danger}; get the archive again")
            own = all(PurePosixPath(m.filename).parts[0] == path.stem for m in members)
            target = folder if own else folder / path.stem
            for done, member in enumerate(members, 1):
                _write(archive, member, target)
                progress(path.name, done, len(members))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DsamlError(f"{path}: is no intact zip archive ({error}); delete it and run this again") from error
    except OSError as error:
        raise DsamlError(f"{folder}: cannot be written ({error.strerror or error}); make room and run this again") from error
    return len(members)


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    file = target / member.filename
    if file.resolve() != (target.resolve() / member.filename):
        raise DsamlError(f"{file}: lies behind a link that leads elsewhere; give an empty folder")
    if file.is_file() and file.stat().st_size == member.file_size:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.part")
    try:
        with archive.open(member) as source, open(temporary, "wb") as stream:
            shutil.copyfileobj(source, stream, BLOCK)  # stops at the declared size, checks the CRC
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def fetch(name: str, folder: Path, base: str | None = None, progress: Progress = _silent) -> list[tuple[Path, str, int]]:
    """Download and unpack a data set.

    Parameters
    ----------
    name : str
        "deam", "vgmidi" or "merp"; for the others the error says where they come from.
    base : str, optional
        Another address that holds the same files: of MERP, a mirror of the hub.
    progress : callable
        Not called for MERP: the hub's client shows bars of its own.

    Returns
    -------
    list of (archive or label table, SHA-256, files that came with it)

    Raises
    ------
    DsamlError
        If it cannot be had from here; the message says what to do by hand.
    """
    name, folder = SAME.get(name, name), Path(folder)
    if name not in TERMS:
        known = f"data set '{name}' is not known; choose one of: {', '.join((*TERMS, *ELSEWHERE))}"
        raise DsamlError(ELSEWHERE.get(name, known))
    if name == "merp":
        return _fetch_merp(folder, base and _usable(base))
    address, files = ARCHIVES[name]
    address, result = _usable(base or address) + "/", []
    for file in files:
        path = folder / SAVED_AS.get(file, file)
        try:
            checksum = download(address + file, path, progress)
        except DsamlError as error:
            clone = ", or 'git clone https://github.com/lucasnfe/vgmidi'" if name == "vgmidi" else ""
            raise DsamlError(f"{error}{clone}") from error
        result.append((path, checksum, unpack(path, folder, progress)))
    return result


def _usable(address: str) -> str:
    """An address without its last slash, if it is one of http."""
    try:
        usable = urllib.parse.urlsplit(address).scheme in ("http", "https")
    except ValueError:  # such as http://[::1
        usable = False
    if not usable:
        raise DsamlError(f"{address}: not an http or https address; give one with --base-url")
    return address.rstrip("/")


def _fetch_merp(folder: Path, endpoint: str | None) -> list[tuple[Path, str, int]]:
    """Files that are there and whole are not asked for again, broken ones are continued."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise DsamlError(
            "MERP comes from the Hugging Face hub, whose client is not installed: 'pip install huggingface_hub', or download "
            f"{MERP_PAGE} in a browser"
        ) from error
    settings = {"repo_type": "dataset", "allow_patterns": MERP_FILES, "token": False}  # public: nobody's token is sent
    try:
        snapshot_download(MERP, local_dir=folder, endpoint=endpoint, **settings)
    except Exception as error:  # the client and the libraries below it raise many kinds
        said = (str(error).strip().splitlines() or [""])[0]
        raise DsamlError(
            f"{endpoint or MERP_PAGE}: MERP cannot be downloaded ({type(error).__name__}: {said}); run this again to continue, or "
            f"download it in a browser into {folder}"
        ) from error
    tables = sorted(folder.glob("*.parquet"))
    if not tables:
        raise DsamlError(f"{MERP_PAGE}: holds no table of labels (.parquet) any more; look there for what has become of it")
    return [(table, sha256(table), 1) for table in tables]
