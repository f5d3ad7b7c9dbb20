"""Random changes of files, in ways that each format suggests."""

import io
import pickletools
import re
import zipfile

CODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
# Lengths, counts and offsets that readers stumble on.
NUMBERS = [0, 1, 2, 7, 127, 128, 255, 256, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1]
NUMBERS += [2**32, 2**48, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
VALUES = (b"-1", b"0.5", b"null", b"true", b"[]", b"{}", b"[[[", b'"../x"', b'"a\\n"')


def change_bytes(content, rng):
    """Set, flip, cut, remove, repeat, replace or insert bytes, or write a number of any width."""
    place = rng.randrange(len(content) + 1)
    length = rng.choice((1, 2, 4, 8, 30, 200))
    end, span = place + length, content[place : place + length]
    match rng.randrange(8):
        case 0:
            return content[:place] + rng.randbytes(len(span)) + content[end:]
        case 1:
            flipped = bytes(byte ^ 1 << rng.randrange(8) for byte in span)
            return content[:place] + flipped + content[end:]
        case 2:
            return content[:place]
        case 3:
            return content[:place] + content[end:]
        case 4:
            return content[:end] + span * rng.choice((1, 2, 10)) + content[end:]
        case 5:
            other = rng.randrange(len(content) + 1)
            return content[:place] + content[other : other + length] + content[end:]
        case 6:
            return content[:place] + rng.choice(CODES) + content[place:]
        case _:
            width = rng.choice((1, 2, 4, 8))
            number = (rng.choice(NUMBERS) % 256**width).to_bytes(width, "little")
            return content[:place] + number + content[place + width :]


def change_pickle(content, rng):
    """Remove, repeat, swap or replace instructions, or change arguments to other numbers."""
    positions = [position for _, _, position in pickletools.genops(content)]
    ends = [*positions[1:], len(content)]
    parts = [content[a:b] for a, b in zip(positions, ends, strict=True)]
    for _ in range(rng.choice((1, 1, 2, 5))):
        place, other = rng.randrange(len(parts)), rng.randrange(len(parts))
        match rng.randrange(6):
            case 0:
                parts[place] = b""
            case 1:
                parts.insert(place, parts[other])
            case 2:
                parts[place], parts[other] = parts[other], parts[place]
            case 3:
                parts[place] = rng.choice(CODES) + parts[place][1:]
            case 4:
                part = parts[place]
                width = max(len(part) - 1, 0)
                parts[place] = part[:1] + (rng.choice(NUMBERS) % 256**width).to_bytes(
                    width, "little"
                )
            case _:
                parts[place:place] = parts[min(place, other) : max(place, other)][:40]
    return b"".join(parts)


def change_json(content, rng):
    """Remove numbers, texts and brackets of JSON, or replace them by one another or by others."""
    parts = re.findall(rb'"[^"]*"|[0-9.]+|.', content, re.DOTALL)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place, other = rng.randrange(len(parts)), rng.randrange(len(parts))
        match rng.randrange(4):
            case 0:
                parts[place] = b""
            case 1:
                parts[place] = parts[other]
            case 2:
                parts.insert(place, parts[other])
            case _:
                parts[place] = rng.choice((*VALUES, str(rng.choice(NUMBERS)).encode()))
    return b"".join(parts)


def change_zip_headers(content, rng):
    """Change numbers in a ZIP's entry headers, in its central directory and in the end record."""
    places = [found.start() for found in re.finditer(rb"PK[\1\3\5\6][\2\4\6\7]", content)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        width = rng.choice((2, 4))
        place = rng.choice(places) + rng.randrange(4, 46, 2)
        number = (rng.choice((*NUMBERS, *places)) % 256**width).to_bytes(width, "little")
        content = content[:place] + number + content[place + width :]
    return content


def change_entry(change, ending):
    """Change the contents of one entry of an archive; its checksum is computed anew."""

    def changed(content, rng):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {info: archive.read(info) for info in archive.infolist()}
        buffer = io.BytesIO()
        names = [info for info in entries if info.filename.endswith(ending)]
        chosen = rng.choice(names)
        with zipfile.ZipFile(buffer, "w") as archive:
            for info, value in entries.items():
                archive.writestr(info.filename, change(value, rng) if info is chosen else value)
        return buffer.getvalue()

    return changed


def change_pickles(content, rng):
    """Change one of several pickles in a row, as in PyTorch's older format."""
    file, ends = io.BytesIO(content), [0]
    while content[ends[-1] : ends[-1] + 1] == b"\x80":
        for _ in pickletools.genops(file):
            pass
        ends.append(file.tell())
    place = rng.randrange(len(ends) - 1)
    start, end = ends[place], ends[place + 1]
    return content[:start] + change_pickle(content[start:end], rng) + content[end:]


def change_header(content, rng):
    """Change the JSON header of a safetensors file, and update its length."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = change_json(content[8:end], rng)
    return len(header).to_bytes(8, "little") + header + content[end:]
