// dlclose: code addresses may mean something else afterwards.
//
// Context: `hook`. There is no dlopen hook: a wrapper there would be the caller by which RUNPATH and $ORIGIN
//          are looked up.
#pragma once

namespace profagent {

struct LibraryEvents {
  void (*before_close)();
  void (*after_close)();
};

// `events` stays. Set once by lifecycle; not set: dlclose is the bare call.
void SetLibraryEvents(const LibraryEvents* events);

}  // namespace profagent
