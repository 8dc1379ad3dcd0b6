"""Sound files of kinds that are not read here, told by their first bytes: none is called broken."""

import re
from typing import Optional

HEAD = 1 << 16  # bytes that are looked at
STARTS = {
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"\x93NUMPY": "NumPy's npy",
    b"\x89HDF": "HDF5",
    b"ZISRAWFILE": "Zeiss CZI",
    b"\xda\xce\xbe\n": "Nikon ND2",
    b"\x70\x00\x00\x00": "Leica LIF",
    b"SIMPLE  =": "FITS",
    b"%PDF": "PDF",
    b"PF\n": "PFM of colours",
    b"version https://git-lfs": "Git LFS' pointer to a file, which was not fetched",
}
DICOM, HEIF_BRANDS = b"DICM", (b"heic", b"heix", b"mif1", b"heim", b"heis", b"hevc")
JPEG_START = b"\xff\xd8\xff"
# Start of frame (ITU T.81, B.2.2): length, then bits of a sample.
JPEG_FRAME = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7]..(.)", re.DOTALL)
AVIF_CONFIG = re.compile(rb"av1C..(.)", re.DOTALL)  # AV1-ISOBMFF, 2.3.3
AVIF_DEEP = 0x40  # the bit high_bitdepth


def foreign_kind(head: bytes) -> Optional[str]:
    """What kind of file it is that is not read here; None if it is none of those known.

    Args:
        head: the file's first ``HEAD`` bytes.
    """
    if head[128:132] == DICOM:
        return "DICOM"
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        return "HEIC"
    if head.startswith(JPEG_START):
        bits = [match[0] for match in JPEG_FRAME.findall(head) if match[0] != 8]
        return f"JPEG of {bits[0]} bits" if bits and 2 <= bits[0] <= 16 else None
    return next((kind for start, kind in STARTS.items() if head.startswith(start)), None)


def avif_is_deep(head: bytes) -> bool:
    """Whether an AVIF has more than 8 bits a channel."""
    config = AVIF_CONFIG.search(head)
    return config is not None and bool(config.group(1)[0] & AVIF_DEEP)
