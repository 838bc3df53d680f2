// pprof's demangler prints names without parameters and without template arguments, and it decides that in the tree of
// the name, not in the text: "operator<", "operator->" and comparisons inside of arguments have their own '<' and '>'.
// libiberty has the same grammar, and its tree is open to us. So: parse without parameters, put two marks into every
// template of the tree, print, and take out what stands between the marks.
//
// The marks are bytes that no name contains. They are put where they change nothing else: the first behind the
// template's name, as an ABI tag would be; the second as one more argument at the end, so that the arguments that
// parameters refer to by number stay where they are.
#include "symbolizer/graph/demangle.h"

#define HAVE_DECL_BASENAME 1  // or libiberty declares its own
#include <libiberty/demangle.h>
#include <pthread.h>

#include <bit>
#include <csetjmp>
#include <cstdlib>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_set>
#include <vector>

#include "symbolizer/graph/rust_v0.h"

namespace profagent::graph {
namespace {

using Component = demangle_component;

struct Freer {
  void operator()(void* block) const { std::free(block); }
};

constexpr char kArgumentsStart = '\x01', kArgumentsEnd = '\x02';
constexpr std::string_view kStartText = "[abi:\x01]";  // as libiberty prints a tag

// Rewrites one tree so that it prints as pprof prints it. What it adds to the tree lives as long as it does.
class TreeEditor {
 public:
  void Edit(Component* root) {
    std::vector<Component*> todo = {root};
    while (!todo.empty()) {
      Component* const node = todo.back();
      todo.pop_back();
      if (node == nullptr || !seen_.insert(node).second) continue;  // trees share what substitutions refer to
      // Subtrees are in one of several places of a union, by the type.
      switch (node->type) {
        case DEMANGLE_COMPONENT_NAME:
        case DEMANGLE_COMPONENT_TEMPLATE_PARAM:
        case DEMANGLE_COMPONENT_FUNCTION_PARAM:
        case DEMANGLE_COMPONENT_BUILTIN_TYPE:
        case DEMANGLE_COMPONENT_EXTENDED_BUILTIN_TYPE:
        case DEMANGLE_COMPONENT_OPERATOR:
        case DEMANGLE_COMPONENT_CHARACTER:
        case DEMANGLE_COMPONENT_NUMBER:
        case DEMANGLE_COMPONENT_UNNAMED_TYPE:
          break;
        case DEMANGLE_COMPONENT_SUB_STD:
          CutArguments(node);
          break;
        case DEMANGLE_COMPONENT_CTOR:
          Visit(node->u.s_ctor.name, todo);
          break;
        case DEMANGLE_COMPONENT_DTOR:
          Visit(node->u.s_dtor.name, todo);
          break;
        case DEMANGLE_COMPONENT_EXTENDED_OPERATOR:
          Visit(node->u.s_extended_operator.name, todo);
          break;
        case DEMANGLE_COMPONENT_FIXED_TYPE:
          Visit(node->u.s_fixed.length, todo);
          break;
        case DEMANGLE_COMPONENT_LAMBDA:
        case DEMANGLE_COMPONENT_DEFAULT_ARG:
          Visit(node->u.s_unary_num.sub, todo);
          break;
        default:
          Visit(node->u.s_binary.left, todo);
          Visit(node->u.s_binary.right, todo);
          if (node->type == DEMANGLE_COMPONENT_QUAL_NAME) NameStructor(node);
          if (node->type == DEMANGLE_COMPONENT_TEMPLATE) MarkArguments(node);
      }
    }
  }

 private:
  Component* New(demangle_component_type type, Component* left, Component* right) {
    Component& added = added_.emplace_back();
    added = {};
    added.type = type;
    added.u.s_binary = {left, right};
    return &added;
  }
  Component* NewName(const char* text) {
    Component& added = added_.emplace_back();
    added = {};
    added.type = DEMANGLE_COMPONENT_NAME;
    added.u.s_name = {text, 1};
    return &added;
  }

  // A parameter means an argument of the template that is being printed. libiberty remembers for a reference to one
  // ("T_&") what it meant the first time, wherever a substitution repeats it; pprof does not. A copy has no memory.
  void Visit(Component*& subtree, std::vector<Component*>& todo) {
    if (subtree == nullptr) return;
    const bool reference =
        subtree->type == DEMANGLE_COMPONENT_REFERENCE || subtree->type == DEMANGLE_COMPONENT_RVALUE_REFERENCE;
    if (reference && subtree->u.s_binary.left->type == DEMANGLE_COMPONENT_TEMPLATE_PARAM) {
      Component* const parameter = &added_.emplace_back(*subtree->u.s_binary.left);
      subtree = New(subtree->type, parameter, nullptr);
    }
    todo.push_back(subtree);
  }

  // Before a constructor "Sd" is the text "std::basic_iostream<char, ...>", which no tree is behind.
  static void CutArguments(Component* standard) {
    const std::string_view text(standard->u.s_string.string, static_cast<size_t>(standard->u.s_string.len));
    if (const size_t start = text.find('<'); start != text.npos)
      standard->u.s_string.len = static_cast<int>(start);
  }

  static Component* LastName(Component* name) {
    while (true) {
      switch (name->type) {
        case DEMANGLE_COMPONENT_QUAL_NAME:
          name = name->u.s_binary.right;
          break;
        case DEMANGLE_COMPONENT_TEMPLATE:
        case DEMANGLE_COMPONENT_TAGGED_NAME:
          name = name->u.s_binary.left;
          break;
        default:
          return name;
      }
    }
  }
  // Constructors and destructors of a class without a name are named after what the class is ("{unnamed type#1}"), not,
  // as libiberty does, after the class around it; inherited constructors after their class, and not after their base.
  static void NameStructor(Component* qualified) {
    Component* const scope = LastName(qualified->u.s_binary.left);
    Component* const name = LastName(qualified->u.s_binary.right);
    if (scope->type != DEMANGLE_COMPONENT_NAME && scope->type != DEMANGLE_COMPONENT_UNNAMED_TYPE &&
        scope->type != DEMANGLE_COMPONENT_LAMBDA)
      return;
    if (name->type == DEMANGLE_COMPONENT_CTOR) name->u.s_ctor.name = scope;
    if (name->type == DEMANGLE_COMPONENT_DTOR) name->u.s_dtor.name = scope;
  }

  void MarkArguments(Component* node) {
    static constexpr char kStart[] = {kArgumentsStart, 0}, kEnd[] = {kArgumentsEnd, 0};
    node->u.s_binary.left = New(DEMANGLE_COMPONENT_TAGGED_NAME, node->u.s_binary.left, NewName(kStart));
    Component** end = &node->u.s_binary.right;
    while (*end != nullptr && (*end)->type == DEMANGLE_COMPONENT_TEMPLATE_ARGLIST)
      end = &(*end)->u.s_binary.right;
    if (*end == nullptr) *end = New(DEMANGLE_COMPONENT_TEMPLATE_ARGLIST, NewName(kEnd), nullptr);
  }

  std::unordered_set<const Component*> seen_;
  std::deque<Component> added_;
};

// Prints a tree, but not without end: a hundred characters of substitutions can stand for gigabytes of text.
class BoundedPrinter {
 public:
  std::optional<std::string> Print(Component* tree, int options) {
    // The printer cannot be told to stop. It is C without anything to release, so it can be jumped out of.
    if (setjmp(too_long_) != 0) return std::nullopt;
    if (cplus_demangle_print_callback(options, tree, &BoundedPrinter::Take, this) == 0) return std::nullopt;
    return std::move(text_);
  }

 private:
  static void Take(const char* part, size_t size, void* self) {
    constexpr size_t kLongest = size_t{16} << 20;
    auto& printer = *static_cast<BoundedPrinter*>(self);
    if (printer.text_.size() + size > kLongest) std::longjmp(printer.too_long_, 1);
    printer.text_.append(part, size);
  }

  std::jmp_buf too_long_;
  std::string text_;
};

// Nothing if the marks do not match, which would mean that the printer left something of the tree out.
std::optional<std::string> WithoutMarkedArguments(std::string_view text) {
  std::string kept;
  int depth = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text.substr(at).starts_with(kStartText)) {
      ++depth;
      at += kStartText.size();  // and the '<' behind it
    } else if (text[at] == kArgumentsEnd) {
      if (--depth < 0) return std::nullopt;
      at += text.substr(at + 1).starts_with(' ') ? 2 : 1;  // and the '>'
    } else if (depth == 0) {
      kept += text[at];
    }
  }
  if (depth != 0) return std::nullopt;
  return kept;
}

// `mangled` begins with _Z.
std::optional<std::string> CPlusPlusName(const std::string& mangled, bool parameters) {
  const int options = DMGL_GNU_V3 | DMGL_ANSI | (parameters ? DMGL_PARAMS : 0);
  void* memory = nullptr;
  Component* const tree = cplus_demangle_v3_components(mangled.c_str(), options, &memory);
  const std::unique_ptr<void, Freer> owner(memory);
  if (tree == nullptr) return std::nullopt;
  TreeEditor editor;
  editor.Edit(tree);
  // libiberty numbers the temporaries of an object ("reference temporary #0 for"); pprof does not.
  const bool temporary = tree->type == DEMANGLE_COMPONENT_REFTEMP;
  const std::optional<std::string> text =
      BoundedPrinter().Print(temporary ? tree->u.s_binary.left : tree, options);
  if (!text) return std::nullopt;
  std::optional<std::string> name = WithoutMarkedArguments(*text);
  if (name && temporary) name->insert(0, "reference temporary for ");
  return name;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
int HexDigit(char c) {
  if (IsDigit(c)) return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// --- Rust's first scheme: C++'s nested names with a hash at the end, and escapes in the identifiers ---

// A '$' at the front of `text`: what it stands for and how long it is. 0: it is no escape.
struct Escape {
  char character = 0;
  size_t length = 0;
};
Escape ReadEscape(std::string_view text) {
  static constexpr std::pair<std::string_view, char> kEscapes[] = {
      {"$C$", ','},  {"$SP$", '@'}, {"$BP$", '*'}, {"$RF$", '&'},
      {"$LT$", '<'}, {"$GT$", '>'}, {"$LP$", '('}, {"$RP$", ')'},
  };
  for (const auto& [escape, character] : kEscapes)
    if (text.starts_with(escape)) return {character, escape.size()};
  if (text.size() > 4 && text[1] == 'u' && text[4] == '$') {
    const int high = HexDigit(text[2]), low = HexDigit(text[3]);
    if (high >= 2 && high <= 7 && low >= 0) return {static_cast<char>(high << 4 | low), 5};
  }
  return {};
}

void AppendRustIdentifier(std::string_view id, std::string& text) {
  if (id.starts_with("_$")) id.remove_prefix(1);  // an identifier may not begin with an escape; this one does
  while (!id.empty()) {
    if (id.starts_with("..")) {
      text += "::";
      id.remove_prefix(2);
      continue;
    }
    if (id.front() != '$') {
      text += id.front();
      id.remove_prefix(1);
      continue;
    }
    const Escape escape = ReadEscape(id);
    if (escape.length == 0) {
      text += id;
      return;
    }
    text += escape.character;
    id.remove_prefix(escape.length);
  }
}

// `mangled` begins with _ZN. Nothing if it is C++ after all.
std::optional<std::string> LegacyRustName(std::string_view mangled) {
  if (const size_t suffix = mangled.rfind("E."); suffix != std::string_view::npos && suffix > 0)
    mangled = mangled.substr(0, suffix + 1);
  constexpr size_t kHash = 16, kTail = 3 + kHash + 1;  // "17h", the hash, "E"
  if (mangled.size() <= 3 + kTail || !mangled.ends_with('E')) return std::nullopt;
  const std::string_view tail = mangled.substr(mangled.size() - kTail);
  if (!tail.starts_with("17h")) return std::nullopt;
  unsigned digits = 0;
  for (const char c : tail.substr(3, kHash)) {
    if (HexDigit(c) < 0) return std::nullopt;
    digits |= 1u << HexDigit(c);
  }
  if (std::popcount(digits) < 5) return std::nullopt;  // a hash that random bits do not give

  std::string_view rest = mangled.substr(3, mangled.size() - 3 - kTail);
  std::string text;
  while (!rest.empty()) {
    if (!IsDigit(rest.front())) return std::nullopt;
    size_t length = 0;
    for (; !rest.empty() && IsDigit(rest.front()); rest.remove_prefix(1)) {
      length = length * 10 + static_cast<size_t>(rest.front() - '0');
      if (length > mangled.size()) return std::nullopt;
    }
    if (length > 0 && rest.starts_with('_')) {
      rest.remove_prefix(1);
      --length;
    }
    if (length > rest.size()) return std::nullopt;
    if (!text.empty()) text += "::";
    AppendRustIdentifier(rest.substr(0, length), text);
    rest.remove_prefix(length);
  }
  return text;
}

// --- names that belong to no scheme ---

bool LooksLikeCPlusPlus(std::string_view name) {
  if (name.find(".<") != std::string_view::npos) return false;   // Java: class.<init>
  if (name.find("]).") != std::string_view::npos) return false;  // Go: foo.(*Bar[...]).Method
  return name.find_first_of("<>[]") != std::string_view::npos || name.find("::") != std::string_view::npos;
}

// Takes out what stands between matching brackets, brackets included. Brackets that do not match stop it.
void RemoveBracketed(std::string& name, char open, char close) {
  int nesting = 0;
  size_t first = 0;
  for (size_t at = 0; at < name.size(); ++at) {
    if (name[at] == open) {
      if (++nesting == 1) first = at;
    } else if (name[at] == close) {
      if (--nesting < 0) return;
      if (nesting == 0) {
        name.erase(first, at + 1 - first);
        at = first - 1;
      }
    }
  }
}

std::optional<std::string> DemangledHere(const std::string& name) {
  if (name.starts_with("_R")) return RustV0Name(name);
  if (name.starts_with("_ZN"))
    if (std::optional<std::string> rust = LegacyRustName(name)) return rust;
  if (name.starts_with("_Z")) return CPlusPlusName(name, false);

  // Blocks, an extension of clang's: the function that they are in, and perhaps a number.
  if (name.starts_with("___Z")) {
    const size_t block = name.rfind("_block_invoke");
    if (block == std::string::npos) return std::nullopt;
    const std::optional<std::string> function = CPlusPlusName(name.substr(2, block - 2), false);
    std::string_view rest = std::string_view(name).substr(block + std::string_view("_block_invoke").size());
    if (rest.starts_with('_')) rest.remove_prefix(1);
    while (!rest.empty() && IsDigit(rest.front())) rest.remove_prefix(1);
    if (!function || !(rest.empty() || rest.front() == '.')) return std::nullopt;
    return "invocation function for block in " + *function;
  }
  // What runs before and after main for one object file.
  constexpr std::string_view kGlobal = "_GLOBAL_";
  if (name.starts_with(kGlobal)) {
    const std::string key = name.substr(kGlobal.size());
    if (key.size() < 4 || std::string_view("._$").find(key[0]) == std::string_view::npos || key[2] != '_' ||
        (key[1] != 'I' && key[1] != 'D')) {
      return std::nullopt;
    }
    const bool mangled = std::string_view(key).substr(3).starts_with("_Z");
    const std::optional<std::string> text = mangled ? CPlusPlusName(key.substr(3), true) : std::optional(key);
    if (!text) return std::nullopt;
    return std::string("global ") + (key[1] == 'I' ? "constructors" : "destructors") + " keyed to " + *text;
  }
  return std::nullopt;
}

// Demanglers call themselves once for each letter, if the letters are of the kind. Names of some kilobytes exist (nested
// lambdas, expression templates) and get a stack that is large enough; longer ones stay as they are.
std::optional<std::string> Demangled(const std::string& name) {
  constexpr size_t kAnyStackWillDo = 1000, kLongest = 60'000;
  constexpr size_t kDeepStack = size_t{256} << 20;  // over 4 KB a letter; only what is touched takes memory
  if (name.size() <= kAnyStackWillDo) return DemangledHere(name);
  if (name.size() > kLongest || !(name.starts_with("_") || name.starts_with("."))) return std::nullopt;

  struct Job {
    const std::string& name;
    std::optional<std::string> result;
  } job{name, {}};
  const auto run = [](void* argument) -> void* {
    auto& running = *static_cast<Job*>(argument);
    running.result = DemangledHere(running.name);
    return nullptr;
  };
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_t thread;
  const bool started = pthread_attr_setstacksize(&attributes, kDeepStack) == 0 &&
                       pthread_create(&thread, &attributes, run, &job) == 0;
  pthread_attr_destroy(&attributes);
  if (!started) return std::nullopt;
  pthread_join(thread, nullptr);
  return std::move(job.result);
}

}  // namespace

std::string ShortName(std::string_view system_name) {
  std::string name(system_name);
  // pprof takes a name that demangles to itself for one that is not mangled.
  if (std::optional<std::string> demangled = Demangled(name); demangled && *demangled != name)
    return *demangled;
  if (LooksLikeCPlusPlus(name)) {
    RemoveBracketed(name, '(', ')');
    RemoveBracketed(name, '<', '>');
  }
  return name;
}

void DemangleNames(View& view) {
  for (Function& function : view.functions) {
    if (function.name != kEmpty && function.name != function.system_name) continue;
    function.name = view.strings->Intern(ShortName(view.Text(function.system_name)));
  }
}

}  // namespace profagent::graph
