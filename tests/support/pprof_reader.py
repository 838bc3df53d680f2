"""Reads profile.proto with nothing but Python: the reader that we did not write for the product.

Context: tests only. It shares no code, no generated file and no field table with agent/encode or symbolizer/profile,
so a field that both of those got wrong in the same way is still found here. It is strict where pprof is lenient:
every id must exist, every sample must have as many values as there are sample types, no byte may be left over.
"""

import collections
import gzip
import re


class BadProfile(Exception):
    pass


def _varint(data, at):
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise BadProfile("a varint runs past its end at byte %d" % at)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data):
    """Yields (field number, value): an int for varints, bytes for length-delimited fields."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise BadProfile("field number 0")
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise BadProfile("field %d is cut off" % number)
            value, at = data[at:at + size], at + size
        else:
            raise BadProfile("field %d has wire type %d, which profile.proto does not use" % (number, kind))
        yield number, value


def _signed(value):
    return value - (1 << 64) if value >= 1 << 63 else value


def _repeated(values):
    """Packed and unpacked repeated integers."""
    result = []
    for value in values:
        if isinstance(value, int):
            result.append(value)
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            result.append(number)
    return result


def _message(data):
    fields = collections.defaultdict(list)
    for number, value in _fields(data):
        fields[number].append(value)
    return fields


def _one(fields, number, default=0):
    return fields[number][-1] if number in fields else default


Mapping = collections.namedtuple(
    "Mapping", "id start limit offset filename build_id has_functions has_filenames has_line_numbers has_inline_frames")
Function = collections.namedtuple("Function", "id name system_name filename start_line")
Line = collections.namedtuple("Line", "function line")
Location = collections.namedtuple("Location", "id mapping address lines")
Sample = collections.namedtuple("Sample", "locations values labels numbers")


class Profile:
    """One decoded profile. Names are as in pprof: samples, locations, mappings, functions."""

    def __init__(self, data):
        top = _message(data)
        unknown = set(top) - set(range(1, 16))
        if unknown:
            raise BadProfile("fields that profile.proto does not have: %s" % sorted(unknown))
        self.strings = [text.decode("utf-8", "surrogateescape") for text in top[6]]
        if not self.strings or self.strings[0] != "":
            raise BadProfile("string_table[0] is not the empty string")
        self.sample_types = [self._value_type(raw) for raw in top[1]]
        self.period_type = self._value_type(_one(top, 11, b""))
        self.period = _signed(_one(top, 12))
        self.time_nanos = _signed(_one(top, 9))
        self.duration_nanos = _signed(_one(top, 10))
        self.comments = [self._text(index) for index in _repeated(top[13])]
        self.default_sample_type = self._text(_one(top, 14))
        self.mappings = self._by_id(map(self._mapping, top[3]), "mapping")
        self.functions = self._by_id(map(self._function, top[5]), "function")
        self.locations = self._by_id(map(self._location, top[4]), "location")
        self.samples = [self._sample(raw) for raw in top[2]]

    def _text(self, index):
        if index >= len(self.strings):
            raise BadProfile("string %d of %d" % (index, len(self.strings)))
        return self.strings[index]

    def _value_type(self, raw):
        fields = _message(raw)
        return self._text(_one(fields, 1)), self._text(_one(fields, 2))

    @staticmethod
    def _by_id(items, kind):
        result = {}
        for item in items:
            if item.id == 0 or item.id in result:
                raise BadProfile("%s id %d is 0 or used twice" % (kind, item.id))
            result[item.id] = item
        return result

    def _mapping(self, raw):
        f = _message(raw)
        mapping = Mapping(_one(f, 1), _one(f, 2), _one(f, 3), _one(f, 4), self._text(_one(f, 5)), self._text(_one(f, 6)),
                          *(bool(_one(f, number)) for number in (7, 8, 9, 10)))
        if mapping.limit < mapping.start:
            raise BadProfile("mapping %d ends before it starts" % mapping.id)
        return mapping

    def _function(self, raw):
        f = _message(raw)
        return Function(_one(f, 1), self._text(_one(f, 2)), self._text(_one(f, 3)), self._text(_one(f, 4)), _one(f, 5))

    def _location(self, raw):
        f = _message(raw)
        lines = []
        for line in f[4]:
            g = _message(line)
            if _one(g, 1) not in self.functions:
                raise BadProfile("a line names function %d, which does not exist" % _one(g, 1))
            lines.append(Line(self.functions[_one(g, 1)], _signed(_one(g, 2))))
        mapping_id = _one(f, 2)
        if mapping_id and mapping_id not in self.mappings:
            raise BadProfile("location %d names mapping %d, which does not exist" % (_one(f, 1), mapping_id))
        mapping, address = self.mappings.get(mapping_id), _one(f, 3)
        if mapping and mapping.limit and address and not mapping.start <= address < mapping.limit:
            raise BadProfile("location %d at %#x is outside its mapping %s [%#x, %#x)" %
                             (_one(f, 1), address, mapping.filename, mapping.start, mapping.limit))
        return Location(_one(f, 1), mapping, address, lines)

    def _sample(self, raw):
        f = _message(raw)
        ids, values = _repeated(f[1]), [_signed(v) for v in _repeated(f[2])]
        if len(values) != len(self.sample_types):
            raise BadProfile("a sample has %d values for %d sample types" % (len(values), len(self.sample_types)))
        missing = [i for i in ids if i not in self.locations]
        if missing:
            raise BadProfile("a sample names locations that do not exist: %s" % missing[:3])
        labels, numbers = {}, {}
        for label in f[3]:
            g = _message(label)
            key = self._text(_one(g, 1))
            if 2 in g:
                labels[key] = self._text(_one(g, 2))
            else:
                numbers[key] = _signed(_one(g, 3))
        return Sample([self.locations[i] for i in ids], values, labels, numbers)

    # What tests ask.

    def total(self, kind="cpu"):
        at = self._value_index(kind)
        return sum(sample.values[at] for sample in self.samples)

    def ticks(self):
        return self.total("samples")

    def cpu_seconds(self):
        return self.total("cpu") / 1e9

    def _value_index(self, kind):
        for index, (name, _) in enumerate(self.sample_types):
            if name == kind:
                return index
        raise BadProfile("no sample type %r among %s" % (kind, self.sample_types))

    def cum(self, pattern, kind="samples"):
        """Sum over the samples with a frame whose name matches the whole pattern."""
        at, want = self._value_index(kind), re.compile(pattern)
        return sum(s.values[at] for s in self.samples if any(want.fullmatch(n) for n in names_of(s)))

    def flat(self, pattern, kind="samples"):
        at, want = self._value_index(kind), re.compile(pattern)
        return sum(s.values[at] for s in self.samples if any(want.fullmatch(n) for n in names_of(s)[:1]))

    def by_leaf(self, kind="samples"):
        at, result = self._value_index(kind), collections.Counter()
        for s in self.samples:
            result[(names_of(s) or ["(no frames)"])[0]] += s.values[at]
        return result

    def by_label(self, key, kind="samples"):
        at, result = self._value_index(kind), collections.Counter()
        for s in self.samples:
            result[s.labels.get(key, "")] += s.values[at]
        return result

    def stacks_with(self, pattern):
        want = re.compile(pattern)
        return [s for s in self.samples if any(want.fullmatch(n) for n in names_of(s))]

    def losses(self):
        """The loss counters of the comments, by the names of agent/ledger/losses.h."""
        result = {}
        for comment in self.comments:
            for name, count in re.findall(r"\b((?:samples|stacks|walks|threads|timers|modules|foreign|handler|heap|waits|periods)_\w+)\b[ =:]+(\d+)",
                                          comment):
                result[name] = int(count)
        return result


def names_of(sample):
    """Function names of one sample, leaf first; a frame without a name is its module and address."""
    names = []
    for location in sample.locations:
        if location.lines:
            names.extend(line.function.name for line in location.lines)
        else:
            module = location.mapping.filename if location.mapping else "?"
            names.append("%s@%#x" % (module, location.address))
    return names


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    if data[:2] != b"\x1f\x8b":
        raise BadProfile("%s is not gzip" % path)
    try:
        return Profile(gzip.decompress(data))
    except (OSError, EOFError) as error:
        raise BadProfile("%s: %s" % (path, error))
