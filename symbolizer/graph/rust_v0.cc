// One pass over the name, which prints as it reads. A back reference reads an earlier part again, up to where the
// reference stands; parts that are not printed (where an impl is, the crate that made an instance) are read all the same.
//
// After a failure every reader returns at once, and the text is thrown away.
#include "symbolizer/graph/rust_v0.h"

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

namespace profagent::graph {
namespace {

constexpr size_t kLongestText = size_t{16} << 20;
constexpr int kDeepest = 2000;  // nested readers, some 200 bytes of stack each
constexpr int64_t kMostInt32 = std::numeric_limits<int32_t>::max();

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }

std::string_view BasicType(char letter) {
  // By letter from a to z; g, k, q, r, w are none.
  static constexpr std::array<std::string_view, 26> kTypes = {
      "i8",   "bool", "char", "f64", "str", "f32", "",    "u8", "isize", "usize", "",    "i32", "u32",
      "i128", "u128", "_",    "",    "",    "i16", "u16", "()", "...",   "",      "i64", "u64", "!"};
  return IsLower(letter) ? kTypes[static_cast<size_t>(letter - 'a')] : std::string_view();
}

void AppendUtf8(char32_t point, std::string& text) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (point >> shift & 0x3f)); };
  if (point < 0x80) {
    text += static_cast<char>(point);
  } else if (point < 0x800) {
    text += static_cast<char>(0xc0 | point >> 6);
    tail(0);
  } else if (point < 0x10000) {
    text += static_cast<char>(0xe0 | point >> 12);
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xf0 | point >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

// RFC 3492, section 6.2, with '_' for the delimiter and digits after letters. Nothing if it is not well-formed.
std::optional<std::string> DecodePunycode(std::string_view encoded) {
  constexpr int64_t kBase = 36, kMin = 1, kMax = 26, kSkew = 38, kDamp = 700;
  std::vector<char32_t> points;
  if (const size_t delimiter = encoded.rfind('_'); delimiter != std::string_view::npos) {
    points.assign(encoded.begin(), encoded.begin() + static_cast<ptrdiff_t>(delimiter));
    encoded.remove_prefix(delimiter + 1);
  }
  int64_t index = 0, point = 128, bias = 72;
  while (!encoded.empty()) {
    const int64_t old_index = index;
    int64_t weight = 1;
    for (int64_t k = kBase;; k += kBase) {
      if (encoded.empty()) return std::nullopt;
      const char c = encoded.front();
      encoded.remove_prefix(1);
      const int64_t digit = IsDigit(c) ? c - '0' + 26 : IsUpper(c) ? c - 'A' : IsLower(c) ? c - 'a' : -1;
      if (digit < 0) return std::nullopt;
      index += digit * weight;
      const int64_t threshold = k <= bias ? kMin : k > bias + kMax ? kMax : k - bias;
      if (digit < threshold) break;
      if (weight >= kMostInt32 / kBase) return std::nullopt;
      weight *= kBase - threshold;
    }
    const auto count = static_cast<int64_t>(points.size()) + 1;
    int64_t delta = (index - old_index) / (old_index == 0 ? kDamp : 2);
    delta += delta / count;
    int64_t k = 0;
    for (; delta > (kBase - kMin) * kMax / 2; k += kBase) delta /= kBase - kMin;
    bias = k + (kBase - kMin + 1) * delta / (delta + kSkew);
    point += index / count;
    index %= count;
    if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return std::nullopt;
    points.insert(points.begin() + index, static_cast<char32_t>(point));
    ++index;
  }
  std::string text;
  for (const char32_t one : points) AppendUtf8(one, text);
  return text;
}

class Reader {
 public:
  explicit Reader(std::string_view name) : name_(name), end_(name.size()) {}

  std::optional<std::string> Read() {
    if (IsDigit(Peek())) return std::nullopt;  // a later version of the scheme
    Path(true);
    if (!failed_ && at_ < end_) {  // the crate that has the instance
      silent_ = true;
      Path(false);
    }
    if (failed_ || at_ != end_) return std::nullopt;
    return std::move(text_);
  }

 private:
  // --- letters in, text out ---

  char Peek() const { return at_ < end_ ? name_[at_] : '\0'; }
  bool AtEnd() const { return at_ >= end_; }
  bool Take(char letter) {
    if (AtEnd() || name_[at_] != letter) return false;
    ++at_;
    return true;
  }
  void Expect(char letter) {
    if (!Take(letter)) Fail();
  }
  void Fail() {
    failed_ = true;
    at_ = end_;  // so that loops over what is left end
  }
  void Print(std::string_view part) {
    if (silent_ || failed_) return;
    text_ += part;
    if (text_.size() > kLongestText) Fail();
  }
  void Print(char letter) { Print(std::string_view(&letter, 1)); }

  // Of items up to an 'E', which is taken too. Returns how many there were.
  template <class Item>
  int List(std::string_view separator, Item item) {
    int count = 0;
    while (!AtEnd() && Peek() != 'E') {
      if (count++ > 0) Print(separator);
      item();
    }
    Expect('E');
    return count;
  }

  class Depth {
   public:
    explicit Depth(Reader& reader) : reader_(reader) {
      if (++reader_.depth_ > kDeepest) reader_.Fail();
    }
    ~Depth() { --reader_.depth_; }
    Depth(const Depth&) = delete;

   private:
    Reader& reader_;
  };

  // --- numbers and identifiers ---

  int64_t Base62() {
    if (Take('_')) return 0;
    uint64_t value = 0;
    while (!AtEnd()) {
      const char c = name_[at_++];
      if (c == '_') return static_cast<int64_t>(value + 1);
      value *= 62;
      if (IsDigit(c))
        value += static_cast<uint64_t>(c - '0');
      else if (IsLower(c))
        value += static_cast<uint64_t>(c - 'a') + 10;
      else if (IsUpper(c))
        value += static_cast<uint64_t>(c - 'A') + 36;
      else
        break;
    }
    Fail();
    return 0;
  }

  // Tells items of one name apart; 0 if there is no need.
  int64_t Disambiguator() { return Take('s') ? Base62() + 1 : 0; }

  std::string Identifier(bool punycode_allowed = true) {
    const bool punycode = Take('u');
    if (AtEnd() || (punycode && !punycode_allowed)) Fail();
    int64_t length = 0;
    while (IsDigit(Peek())) {
      const int64_t digit = name_[at_++] - '0';
      if (length >= kMostInt32 / 10 - digit) Fail();
      length = length * 10 + digit;
    }
    Take('_');
    if (failed_ || static_cast<uint64_t>(length) > end_ - at_) {
      Fail();
      return {};
    }
    const std::string_view id = name_.substr(at_, static_cast<size_t>(length));
    at_ += id.size();
    for (const char c : id)
      if (!IsDigit(c) && !IsLower(c) && !IsUpper(c) && c != '_') Fail();
    if (!punycode) return std::string(id);
    std::optional<std::string> decoded = DecodePunycode(id);
    if (!decoded) Fail();
    return decoded.value_or("");
  }

  // Reads an earlier part with `read`, as if it stood here.
  template <class Read>
  void BackReference(Read read) {
    const size_t here = at_;
    Expect('B');
    const int64_t target = Base62();
    if (silent_ || failed_) return;
    if (target < 0 || static_cast<uint64_t>(target) >= here) return Fail();
    const size_t at = at_, end = end_;
    at_ = static_cast<size_t>(target);
    end_ = here;
    read();
    if (failed_) return;
    at_ = at;
    end_ = end;
  }

  // --- paths ---

  // In an expression generic arguments need a "::" before them; in a type they do not.
  void Path(bool in_expression) {
    const Depth depth(*this);
    switch (const char letter = Peek()) {
      case 'C':
        ++at_;
        Disambiguator();
        Print(Identifier());
        return;
      case 'M':
      case 'X':
      case 'Y':
        ++at_;
        if (letter != 'Y') ImplPath();
        Print('<');
        Type();
        if (letter != 'M') {
          Print(" as ");
          Path(false);
        }
        Print('>');
        return;
      case 'N':
        return Nested(in_expression);
      case 'I':
        ++at_;
        Path(in_expression);
        Print(in_expression ? "::<" : "<");
        List(", ", [this] { GenericArgument(); });
        Print('>');
        return;
      case 'B':
        return BackReference([&] { Path(in_expression); });
      default:
        return Fail();
    }
  }

  void Nested(bool in_expression) {
    ++at_;
    const char name_space = Peek();
    if (!IsLower(name_space) && !IsUpper(name_space)) return Fail();
    ++at_;
    Path(in_expression);
    const int64_t number = Disambiguator();
    const std::string id = Identifier();
    if (IsLower(name_space)) {
      Print("::");
      Print(id);
      return;
    }
    Print("::{");
    if (name_space == 'C')
      Print("closure");
    else if (name_space == 'S')
      Print("shim");
    else
      Print(name_space);
    if (!id.empty()) {
      Print(':');
      Print(id);
    }
    Print("#" + std::to_string(number) + "}");
  }

  // Where an impl stands says nothing about what it is.
  void ImplPath() {
    const bool was_silent = silent_;
    silent_ = true;
    Disambiguator();
    Path(false);
    silent_ = was_silent;
  }

  void GenericArgument() {
    if (Take('L'))
      PrintLifetime(Base62());
    else if (Take('K'))
      Constant();
    else
      Type();
  }

  // --- types ---

  void Type() {
    const Depth depth(*this);
    const char letter = Peek();
    if (const std::string_view basic = BasicType(letter); !basic.empty()) {
      ++at_;
      return Print(basic);
    }
    switch (letter) {
      case 'C':
      case 'M':
      case 'X':
      case 'Y':
      case 'N':
      case 'I':
        return Path(false);
      case 'B':
        return BackReference([this] { Type(); });
      case 'A':
      case 'S':
      case 'T':
      case 'R':
      case 'Q':
      case 'P':
      case 'O':
      case 'F':
      case 'D':
        ++at_;
        break;
      default:
        return Fail();
    }
    switch (letter) {
      case 'A':
      case 'S':
        Print('[');
        Type();
        if (letter == 'A') {
          Print("; ");
          Constant();
        }
        return Print(']');
      case 'T':
        Print('(');
        Print(List(", ", [this] { Type(); }) == 1 ? ",)" : ")");
        return;
      case 'R':
      case 'Q':
        Print('&');
        if (Take('L')) {
          if (const int64_t lifetime = Base62(); lifetime > 0) {
            PrintLifetime(lifetime);
            Print(' ');
          }
        }
        if (letter == 'Q') Print("mut ");
        return Type();
      case 'P':
      case 'O':
        Print(letter == 'P' ? "*const " : "*mut ");
        return Type();
      default:
        return TypeWithLifetimes(letter);
    }
  }

  // Functions and trait objects, whose lifetimes end where they do.
  void TypeWithLifetimes(char letter) {
    const int64_t outer = lifetimes_;
    if (letter == 'F') {
      FunctionSignature();
      lifetimes_ = outer;
      return;
    }
    Print("dyn ");
    Binder();
    List(" + ", [this] { DynTrait(); });
    lifetimes_ = outer;
    Expect('L');
    if (const int64_t lifetime = Base62(); lifetime > 0) {
      if (!text_.ends_with(' ')) Print(' ');
      Print("+ ");
      PrintLifetime(lifetime);
    }
  }

  void FunctionSignature() {
    Binder();
    if (Take('U')) Print("unsafe ");
    if (Take('K')) {
      std::string abi = "C";
      if (!Take('C')) {
        abi = Identifier(false);
        for (char& c : abi)
          if (c == '_') c = '-';
      }
      Print("extern \"" + abi + "\" ");
    }
    Print("fn(");
    List(", ", [this] { Type(); });
    Print(')');
    if (Take('u')) return;
    Print(" -> ");
    Type();
  }

  void DynTrait() {
    bool open = OpenPath();
    while (Take('p')) {
      Print(open ? ", " : "<");
      open = true;
      Print(Identifier());
      Print(" = ");
      Type();
    }
    if (open) Print('>');
  }

  // A path whose generic arguments, if it has any, are not closed yet: associated types follow in the same brackets.
  bool OpenPath() {
    const Depth depth(*this);
    bool open = false;
    if (Peek() == 'B') {
      BackReference([&] { open = OpenPath(); });
    } else if (Take('I')) {
      Path(false);
      Print('<');
      List(", ", [this] { GenericArgument(); });
      open = true;
    } else {
      Path(false);
    }
    return open;
  }

  // --- lifetimes ---

  void Binder() {
    if (!Take('G')) return;
    const int64_t count = static_cast<int64_t>(static_cast<uint64_t>(Base62()) + 1);
    // Each is referred to later, so there cannot be more than letters.
    if (count >= static_cast<int64_t>(end_ - at_) - lifetimes_) return Fail();
    Print("for<");
    for (int64_t i = 0; i < count; ++i) {
      if (i > 0) Print(", ");
      ++lifetimes_;
      PrintLifetime(1);
    }
    Print("> ");
  }

  // 1 is the innermost that is bound.
  void PrintLifetime(int64_t lifetime) {
    Print('\'');
    if (lifetime == 0) return Print('_');
    const int64_t depth = lifetimes_ - lifetime;
    if (lifetime < 0 || depth < 0) return Fail();
    if (depth < 26) return Print(static_cast<char>('a' + depth));
    Print("z" + std::to_string(depth - 26 + 1));
  }

  // --- constants ---

  void Constant() {
    const Depth depth(*this);
    if (Peek() == 'B') return BackReference([this] { Constant(); });
    if (Take('p')) return Print('_');
    const char type = Peek();
    const bool is_signed = std::string_view("aslxni").find(type) != std::string_view::npos;
    const bool is_unsigned = std::string_view("htmyoj").find(type) != std::string_view::npos;
    if (AtEnd() || (!is_signed && !is_unsigned && type != 'b' && type != 'c')) return Fail();
    ++at_;
    if (is_signed && Take('n')) Print('-');

    const size_t start = at_;
    uint64_t value = 0;
    while (!AtEnd() && Peek() != '_') {
      const char c = name_[at_++];
      uint64_t digit = 0;
      if (IsDigit(c))
        digit = static_cast<uint64_t>(c - '0');
      else if (c >= 'a' && c <= 'f')
        digit = static_cast<uint64_t>(c - 'a') + 10;
      else
        return Fail();
      // pprof takes a value for 0 that is 0 in 64 bits, so a number of 128 bits with enough zeros is no name to it.
      if (value == 0 && digit == 0 && Peek() != '_') return Fail();
      value = value * 16 + digit;
    }
    const std::string_view digits = name_.substr(start, at_ - start);
    if (digits.empty()) return Fail();
    Take('_');

    if (is_signed || is_unsigned) {
      Print(digits.size() > 16 ? "0x" + std::string(digits) : std::to_string(value));
    } else if (type == 'b') {
      if (digits.size() > 1 || value > 1) return Fail();
      Print(value == 1 ? "true" : "false");
    } else {
      PrintCharacter(value, digits);
    }
  }

  void PrintCharacter(uint64_t value, std::string_view digits) {
    if (digits.size() > 6) return Fail();
    switch (value) {
      case '\t':
        return Print("'\\t'");
      case '\r':
        return Print("'\\r'");
      case '\n':
        return Print("'\\n'");
      case '\\':
        return Print("'\\\\'");
      case '\'':
        return Print("'\\''");
      default:
        break;
    }
    if (value >= ' ' && value <= '~') return Print(std::string("'") + static_cast<char>(value) + "'");
    Print("'\\u{" + std::string(digits) + "}'");
  }

  std::string_view name_;
  size_t at_ = 0, end_;
  std::string text_;
  bool silent_ = false, failed_ = false;
  int64_t lifetimes_ = 0;  // bound around here
  int depth_ = 0;
};

}  // namespace

std::optional<std::string> RustV0Name(std::string_view mangled) {
  mangled = mangled.substr(0, mangled.find('.'));
  if (mangled.size() <= 2) return std::nullopt;
  return Reader(mangled.substr(2)).Read();
}

}  // namespace profagent::graph
