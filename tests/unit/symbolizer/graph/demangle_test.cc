#include "symbolizer/graph/demangle.h"

#include <gtest/gtest.h>

namespace profagent::graph {
namespace {

// Each expectation is what go tool pprof printed for the name.
TEST(ShortName, LeavesParametersAndTemplateArgumentsOut) {
  EXPECT_EQ(ShortName("_ZN3app3BoxIiE4workEi"), "app::Box::work");
  EXPECT_EQ(ShortName("_ZNSt6vectorIiSaIiEE9push_backERKi"), "std::vector::push_back");
  EXPECT_EQ(ShortName("_ZNKSt6vectorIiSaIiEE4sizeEv"), "std::vector::size");
  EXPECT_EQ(ShortName("_Z1fIiEvT_"), "f");
  EXPECT_EQ(ShortName("_Znwm"), "operator new");
  EXPECT_EQ(ShortName("_ZN12_GLOBAL__N_13fooEv"), "(anonymous namespace)::foo");
  EXPECT_EQ(ShortName("_ZN3app4mainEv.part.0"), "app::main");
}

// In these '<' and '>' are the name, not brackets.
TEST(ShortName, KnowsOperatorsFromBrackets) {
  EXPECT_EQ(ShortName("_ZStltIcSt11char_traitsIcESaIcEEbRKNSt7__cxx1112basic_stringIT_T0_T1_EES8_"),
            "std::operator<");
  EXPECT_EQ(ShortName("_ZStlsISt11char_traitsIcEERSt13basic_ostreamIcT_ES5_PKc"), "std::operator<<");
  EXPECT_EQ(ShortName("_ZNKSt10unique_ptrI3FooSt14default_deleteIS0_EEptEv"), "std::unique_ptr::operator->");
  EXPECT_EQ(ShortName("_ZN1AIXgtLi2ELi1EEE1fEv"), "A::f");
}

// The function around a lambda keeps its parameters: they are part of where the lambda is.
TEST(ShortName, KeepsTheParametersOfTheFunctionAround) {
  EXPECT_EQ(ShortName("_ZZ4mainENKUlvE_clEv"), "main::{lambda()#1}::operator()");
  EXPECT_EQ(ShortName("_ZZN1a1bIiEEvT_ENKUlvE_clEv"), "a::b(int)::{lambda()#1}::operator()");
  EXPECT_EQ(ShortName("_ZZNSt9once_flag18_Prepare_executionC4IZSt9call_onceIRFvvEJEEvRS_OT_DpOT0_EUlvE_EERS6_"
                      "ENUlvE_4_FUNEv"),
            "std::once_flag::_Prepare_execution::_Prepare_execution(std::call_once(std::once_flag&, void "
            "(&)())::{lambda()#1}&)::{lambda()#1}::_FUN");
}

TEST(ShortName, NamesConstructorsAsPprofDoes) {
  EXPECT_EQ(ShortName("_ZNSdC1EOSd"), "std::basic_iostream::basic_iostream");
  EXPECT_EQ(ShortName("_ZN13ImportProjectUt_D1Ev"), "ImportProject::{unnamed type#1}::~{unnamed type#1}");
  // Inherited by `using`: CI1 and CI2, of std::unique_ptr and std::optional.
  EXPECT_EQ(
      ShortName("_ZNSt15__uniq_ptr_dataI1ASt14default_deleteIS0_ELb1ELb1EECI2St15__uniq_ptr_implIS0_S2_EEv"),
      "std::__uniq_ptr_data::__uniq_ptr_data");
  EXPECT_EQ(ShortName("_ZN1DCI11BEi"), "D::D");
  EXPECT_EQ(ShortName("_ZGRN4grpc6Status2OKE_"), "reference temporary for grpc::Status::OK");
  EXPECT_EQ(ShortName("_ZThn16_N3foo3barEi"), "non-virtual thunk to foo::bar(int)");
}

TEST(ShortName, ReadsRustsFirstScheme) {
  EXPECT_EQ(ShortName("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"), "core::fmt::Write::write_fmt");
  EXPECT_EQ(ShortName("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE.llvm.123"),
            "core::fmt::Write::write_fmt");
  EXPECT_EQ(ShortName("_ZN50_$LT$T$u20$as$u20$core..convert..Into$LT$U$GT$$GT$4into17h0123456789abcdefE"),
            "<T as core::convert::Into<U>>::into");
  // A "hash" of few digits is a C++ function that happens to be named so.
  EXPECT_EQ(ShortName("_ZN4core17h1111111111111111E"), "core::h1111111111111111");
}

TEST(ShortName, ReadsRustsSecondScheme) {
  EXPECT_EQ(ShortName("_RNvC6_123foo3bar"), "123foo::bar");
  EXPECT_EQ(ShortName("_RNvC6_123foo3bar.llvm.123"), "123foo::bar");
  EXPECT_EQ(ShortName("_RINvNtC3std3mem8align_ofdE"), "std::mem::align_of::<f64>");
  EXPECT_EQ(ShortName("_RNCNvC1a4main0s_0"), "_RNCNvC1a4main0s_0")
      << "a crate that made the instance is a path";
  EXPECT_EQ(ShortName("_RNCNvC1a4mains_0"), "a::main::{closure#1}");
  EXPECT_EQ(ShortName("_RNvXs_C1aNtB4_1TNtB4_5Trait1f"), "<a::T as a::Trait>::f");
  EXPECT_EQ(ShortName("_RINvC1a1fRNtB2_1TQhEB2_"), "a::f::<&a::T, &mut u8>");
  EXPECT_EQ(ShortName("_RINvC1a1fFUKCmEuDNtB2_5TraitEL_E"),
            "a::f::<unsafe extern \"C\" fn(u32), dyn a::Trait>");
  EXPECT_EQ(ShortName("_RINvC1a1fKj2a_Kb1_Kc61_Kln5_Aj3_E"), "_RINvC1a1fKj2a_Kb1_Kc61_Kln5_Aj3_E");
  EXPECT_EQ(ShortName("_RINvC1a1fKj2a_Kb1_Kc61_Kln5_AhKj3_E"), "_RINvC1a1fKj2a_Kb1_Kc61_Kln5_AhKj3_E");
  EXPECT_EQ(ShortName("_RINvC1a1fKj2a_Kb1_Kc61_Kln5_Ahj3_E"), "a::f::<42, true, 'a', -5, [u8; 3]>");
  EXPECT_EQ(ShortName("_RINvC1a1fFG_RL0_hEuE"), "a::f::<for<'a> fn(&'a u8)>");
  EXPECT_EQ(ShortName("_RNvC1au9gdel_5qa7"), "_RNvC1au9gdel_5qa7");
  EXPECT_EQ(ShortName("_RNvC1au8gdel_5qa"), "a::gödel");
}

// Each reference doubles what the one before it prints, in a hundred letters.
TEST(ShortName, BoundsWhatBackReferencesPrint) {
  std::string name = "_RINvC1a1fT";
  size_t target = name.size() - 3;  // of the 'T', as positions are counted behind "_R"
  name += "hhE";
  for (int i = 0; i < 40; ++i) {
    const char digit = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[(target - 1) % 62];
    const size_t next = name.size() - 2;
    const std::string reference = target == 0       ? "B_"
                                  : target - 1 < 62 ? std::string("B") + digit + "_"
                                                    : "B1" + std::string(1, digit) + "_";
    name += "T" + reference + reference + "E";
    target = next;
  }
  name += "E";
  EXPECT_EQ(ShortName(name), name);
}

TEST(ShortName, LeavesOtherNamesAlone) {
  for (const char* name : {"", "main", "f(int)", "main.main", "main.(*T[...]).f", "com.example.Foo.<init>",
                           "_Z", "__libc_start_main", "_ZN", "a>b<c", "_Znotmangled", "\xff\xfe", "[unknown"})
    EXPECT_EQ(ShortName(name), name);
  EXPECT_EQ(ShortName("a<b>::c(int)"), "a::c");
  EXPECT_EQ(ShortName("std::vector<std::pair<int, int>>::push_back(int const&)"), "std::vector::push_back");
}

// Names come from foreign files.
TEST(ShortName, SurvivesAnyPrefixAndAnyDamage) {
  const std::string name =
      "_ZZNSt9once_flag18_Prepare_executionC4IZSt9call_onceIMSt6threadFvvEJPS3_EEvRS_OT_DpOT0_EUlvE_EERS8_"
      "ENUlvE_4_FUNEv";
  for (size_t i = 0; i < name.size(); ++i) {
    (void)ShortName(name.substr(0, i));
    for (const char c : {'\0', '_', 'E', 'S', 'T', 'I', 'N', 'Z', '9', '\x01', '\x02', '\xff'}) {
      std::string damaged = name;
      damaged[i] = c;
      (void)ShortName(damaged);
    }
  }
  (void)ShortName("_ZN99999999999999999999fooE17h0123456789abcdefE");
}

// Found here: libiberty follows every letter with a call, and 100 000 'P' take more than a stack.
TEST(ShortName, HasStackEnoughForLongNames) {
  for (const size_t size : {100, 1'000, 10'000, 50'000, 1'000'000}) {
    const std::string pointers = "_Z1fI" + std::string(size, 'P') + "iEvv";
    // libiberty prints 1024 levels, then gives up: the name stays as it is.
    EXPECT_TRUE(ShortName(pointers) == (size <= 1'000 ? "f" : pointers)) << size;
    (void)ShortName("_Z" + std::string(size, 'N'));
    (void)ShortName("_R" + std::string(size, 'I'));
    (void)ShortName("_RY" + std::string(size, 'P') + "u");
  }
}

// Each argument is twice the one before it: 2^60 letters if written out.
TEST(ShortName, DoesNotWriteOutGigabytes) {
  std::string name = "_Z1fI1pIiiE";
  for (int i = 0; i < 35; ++i) {
    const std::string last = std::string(1, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[i]);
    name += "S_IS" + last + "_S" + last + "_E";
  }
  name += "Evv";
  const std::string text = ShortName(name);
  EXPECT_TRUE(text == "f" || text == name) << text.size();
}

TEST(DemangleNames, KeepsNamesThatTheAuthorChose) {
  View view;
  const StringId mangled = view.strings->Intern("_ZN3app1fEi"), chosen = view.strings->Intern("app::f(int)");
  view.functions = {{.name = mangled, .system_name = mangled},
                    {.name = chosen, .system_name = mangled},
                    {.name = kEmpty, .system_name = mangled}};
  DemangleNames(view);
  EXPECT_EQ(view.Text(view.functions[0].name), "app::f");
  EXPECT_EQ(view.Text(view.functions[0].system_name), "_ZN3app1fEi");
  EXPECT_EQ(view.Text(view.functions[1].name), "app::f(int)");
  EXPECT_EQ(view.Text(view.functions[2].name), "app::f");
}

}  // namespace
}  // namespace profagent::graph
