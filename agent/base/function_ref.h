// A borrowed callable: what a function takes when it calls back and does not keep.
//
// Context:   every one. Two words; no allocation, no vtable, no type information (so that code built with and
//            without -frtti may share it).
// Invariant: the callable outlives the FunctionRef. Pass it down, do not store it.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace profagent {

template <class Signature>
class FunctionRef;

template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef> && std::is_invocable_r_v<R, F&, Args...>)
      FunctionRef(F&& callable)  // NOLINT(google-explicit-constructor): lambdas are passed as they are
      : object_(
            (void*)std::addressof(callable)),  // NOLINT: takes const and functions off, call_ puts them back
        call_([](void* object, Args... args) -> R {
          return (*(std::remove_reference_t<F>*)object)(std::forward<Args>(args)...);  // NOLINT
        }) {}

  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

}  // namespace profagent
