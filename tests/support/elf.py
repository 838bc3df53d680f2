"""Functions of an ELF file, as two tables that nobody can disagree about: symbols, and the ranges of .eh_frame_hdr.

Context: tests only. Stripped libraries name few of their functions but describe all of them in .eh_frame, so shares of
two profilers can be compared by function even where neither has a name.
"""

import bisect
import collections
import struct

Symbol = collections.namedtuple("Symbol", "address size name")


class Elf:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        data = self.data
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("%s is not a 64-bit little-endian ELF file" % path)
        self.entry, phoff, shoff = struct.unpack_from("<QQQ", data, 24)
        phentsize, phnum, shentsize, shnum, shstrndx = struct.unpack_from("<HHHHH", data, 54)
        self.loads = []
        header = None
        for i in range(phnum):
            kind, _, offset, vaddr, _, filesz, _, _ = struct.unpack_from("<IIQQQQQQ", data, phoff + i * phentsize)
            if kind == 1:
                self.loads.append((offset, vaddr, filesz))
            elif kind == 0x6474E550:  # PT_GNU_EH_FRAME
                header = (offset, vaddr)
        self.symbols = self._read_symbols(shoff, shentsize, shnum)
        starts = self._read_frame_starts(*header) if header else []
        self.starts = sorted(set(starts) | {s.address for s in self.symbols if not starts})
        self._symbol_starts = [s.address for s in self.symbols]

    def _read_symbols(self, shoff, shentsize, shnum):
        data, result = self.data, []
        sections = [struct.unpack_from("<IIQQQQIIQQ", data, shoff + i * shentsize) for i in range(shnum)]
        for _, kind, _, _, offset, size, link, _, _, entsize in sections:
            if kind not in (2, 11) or entsize != 24:  # SHT_SYMTAB, SHT_DYNSYM
                continue
            strings = sections[link][4]
            for at in range(offset, offset + size, 24):
                name, info, _, section, value, length = struct.unpack_from("<IBBHQQ", data, at)
                if info & 15 in (2, 10) and section != 0:  # STT_FUNC, STT_GNU_IFUNC, defined
                    end = data.index(b"\0", strings + name)
                    result.append(Symbol(value, length, data[strings + name:end].decode("utf-8", "replace").split("@")[0]))
        return sorted(set(result))

    def _read_frame_starts(self, offset, vaddr):
        """The sorted table of .eh_frame_hdr, in the one encoding that linkers write."""
        version, _, count_encoding, table_encoding = struct.unpack_from("<BBBB", self.data, offset)
        if (version, count_encoding, table_encoding) != (1, 0x03, 0x3B):
            return []
        count, = struct.unpack_from("<I", self.data, offset + 8)
        table = struct.unpack_from("<%di" % (2 * count), self.data, offset + 12)
        return [vaddr + start for start in table[::2]]

    def address_of(self, file_offset):
        for offset, vaddr, size in self.loads:
            if offset <= file_offset < offset + size:
                return file_offset - offset + vaddr
        return None

    def function_start(self, address):
        at = bisect.bisect_right(self.starts, address)
        return self.starts[at - 1] if at else address

    def names(self, address):
        """All symbols that cover the address."""
        at = bisect.bisect_right(self._symbol_starts, address)
        result = set()
        while at > 0 and address - self.symbols[at - 1].address < 1 << 20:
            at -= 1
            symbol = self.symbols[at]
            if symbol.address <= address < symbol.address + symbol.size:
                result.add(symbol.name)
        return result
