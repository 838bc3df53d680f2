#include "agent/unwind/registers_x86_64.h"

#include <cstring>

namespace profagent {

void LoadRegisters(const ucontext_t& context, Registers* registers) {
  auto* from = reinterpret_cast<const char*>(&context);
  for (uint8_t i = 0; i < kRegisterCount; ++i) {
    std::memcpy(&registers->value[i], from + SigcontextOffset(i), sizeof(uint64_t));
  }
}

PrologueState ClassifyInstruction(const CodeWindow& code) {
  size_t after = code.after;
  if (after >= 1) {
    uint8_t first = code.At(0);
    if (first == 0xc3 || first == 0xc2) return PrologueState::kReturnAddressOnTop;  // ret
    if (first == 0x55) return PrologueState::kReturnAddressOnTop;                   // push %rbp
  }
  if (after >= 2) {
    if (code.At(0) == 0xf3 && code.At(1) == 0xc3) return PrologueState::kReturnAddressOnTop;  // rep ret
    if (code.At(0) == 0xff && code.At(1) == 0x25) return PrologueState::kReturnAddressOnTop;  // jmp *x(%rip)
  }
  if (LandingMarkSize(code) != 0) return PrologueState::kReturnAddressOnTop;
  if (after >= 3 && code.before >= 1 && code.At(-1) == 0x55) {  // mov %rsp,%rbp, in its two encodings
    bool moves = (code.At(0) == 0x48 && code.At(1) == 0x89 && code.At(2) == 0xe5) ||
                 (code.At(0) == 0x48 && code.At(1) == 0x8b && code.At(2) == 0xec);
    if (moves) return PrologueState::kFramePointerPushed;
  }
  // mov $15,%rax (in 7 or 5 bytes); syscall: rt_sigreturn, where the C library gave its restorer no CFI
  if (after >= 9 && std::memcmp(code.bytes + CodeWindow::kBefore, "\x48\xc7\xc0\x0f\0\0\0\x0f\x05", 9) == 0) {
    return PrologueState::kSignalReturn;
  }
  if (after >= 7 && std::memcmp(code.bytes + CodeWindow::kBefore, "\xb8\x0f\0\0\0\x0f\x05", 7) == 0) {
    return PrologueState::kSignalReturn;
  }
  return PrologueState::kUnknown;
}

bool ReadEpilogue(const CodeWindow& code, Epilogue* epilogue) {
  // DWARF's number of the register that instructions call 0, 1, ...
  constexpr uint8_t kNumbers[] = {0, 2, 1, 3, 7, 6, 4, 5};
  constexpr uint32_t kMostRoom = 1 << 20;
  const uint8_t* at = code.bytes + CodeWindow::kBefore;
  const uint8_t* limit = at + code.after;
  while (at < limit) {
    bool is_wide = at[0] == 0x48 && limit - at >= 4 && at[2] == 0xc4;  // of 64 bits, to %rsp
    bool is_high = at[0] == 0x41 && limit - at >= 2;                   // of %r8 to %r15
    uint8_t pop = is_high ? at[1] : at[0];
    if (at[0] == 0xc3 || (at[0] == 0xf3 && limit - at >= 2 && at[1] == 0xc3)) return true;  // ret, rep ret
    if (is_wide && at[1] == 0x83 && at[3] < 0x80) {                                         // add $x,%rsp
      epilogue->size += at[3];
      at += 4;
    } else if (is_wide && at[1] == 0x81 && limit - at >= 7) {  // add $x,%rsp, the long one
      uint32_t room;
      std::memcpy(&room, at + 3, sizeof room);
      if (room > kMostRoom) return false;
      epilogue->size += room;
      at += 7;
    } else if (pop >= 0x58 && pop < 0x60 && (is_high || pop != 0x5c) &&  // not %rsp
               epilogue->restored < Epilogue::kMostRestored) {
      uint8_t number = is_high ? static_cast<uint8_t>(8 + pop - 0x58) : kNumbers[pop - 0x58];
      epilogue->registers[epilogue->restored++] = {number, epilogue->size};
      epilogue->size += 8;
      at += is_high ? 2 : 1;
    } else {
      return false;
    }
  }
  return false;
}

bool FollowsCall(const CodeWindow& code, uintptr_t address, uintptr_t* target) {
  *target = 0;
  if (code.before >= 5 && code.At(-5) == 0xe8) {  // call rel32
    int32_t distance;
    std::memcpy(&distance, code.bytes + CodeWindow::kBefore - 4, sizeof distance);
    *target = address + static_cast<uintptr_t>(static_cast<intptr_t>(distance));
    return true;
  }
  // call r/m64 is ff /2: 2 bytes with a register or plain base, 3 with a byte of displacement or an index,
  // 4 with both, 6 and 7 with 4 bytes of displacement. A REX prefix in front changes nothing here.
  constexpr int kLengths[] = {2, 3, 4, 6, 7};
  for (int length : kLengths) {
    if (code.before < length || code.At(-length) != 0xff) continue;
    uint8_t modrm = code.At(-length + 1);
    if ((modrm >> 3 & 7) != 2) continue;
    unsigned mode = modrm >> 6, rm = modrm & 7;
    int size = 2;
    if (mode != 3 && rm == 4) size += 1;
    if (mode == 1) size += 1;
    if (mode == 2 || (mode == 0 && rm == 5)) size += 4;
    if (mode == 0 && rm == 4 && length == 7 && (code.At(-length + 2) & 7) == 5) size += 4;
    if (size == length) return true;
  }
  return false;
}

bool FollowsCallThroughMemory(const CodeWindow& code, uintptr_t address, uintptr_t* pointer) {
  if (code.before < 6 || code.At(-6) != 0xff || code.At(-5) != 0x15) return false;
  int32_t distance;
  std::memcpy(&distance, code.bytes + CodeWindow::kBefore - 4, sizeof distance);
  *pointer = address + static_cast<uintptr_t>(static_cast<intptr_t>(distance));
  return true;
}

bool SetsFramePointer(const CodeWindow& code, uintptr_t size) {
  for (int at = 0; at + 4 <= code.after && static_cast<uintptr_t>(at) + 3 <= size; ++at) {
    if (code.At(at) != 0x48) continue;
    uint8_t opcode = code.At(at + 1), modrm = code.At(at + 2);
    if (opcode == 0x89 && modrm == 0xe5) return true;  // mov
    if (opcode == 0x8b && modrm == 0xec) return true;  // the same
    if (opcode == 0x8d && (modrm == 0x6c || modrm == 0xac) && code.At(at + 3) == 0x24) return true;  // lea
  }
  return false;
}

PrologueStep ReadPrologue(const CodeWindow& code) {
  if (code.after < 8) return {};
  auto number = [&code](int at, int size) {
    if (size == 1) return static_cast<uint32_t>(code.At(at));
    uint32_t value;
    std::memcpy(&value, code.bytes + CodeWindow::kBefore + at, sizeof value);
    return value;
  };
  if (uint8_t mark = LandingMarkSize(code); mark != 0) return {mark, false, 0};
  uint8_t first = code.At(0), second = code.At(1), third = code.At(2), fourth = code.At(3);
  if ((first & 0xf8) == 0x50) return {1, false, 8};                    // push
  if (first == 0x41 && (second & 0xf8) == 0x50) return {2, false, 8};  // push %r8 to %r15
  if (first == 0x76) return {2, false, 0};                             // Go's jbe to morestack
  if (first == 0x0f && second == 0x86) return {6, false, 0};           // the same
  if ((first == 0x49 || first == 0x4d) && second == 0x3b && third == 0x66)
    return {4, false, 0};  // cmp x(%r14)
  if ((first & 0xf8) != 0x48) return {};
  if (first == 0x48 && ((second == 0x89 && third == 0xe5) || (second == 0x8b && third == 0xec)))
    return {3, true, 0};
  if (second == 0x89 && third >> 6 == 3 && (first & 1 || (third & 7) == 3))
    return {3, false, 0};  // keeps an argument
  if (first == 0x48 && second == 0x83 && third == 0xec && fourth < 0x80) return {4, false, fourth};
  if (first == 0x48 && second == 0x81 && third == 0xec) return {7, false, number(3, 4)};
  bool near = (third & 0xc7) == 0x44, far = (third & 0xc7) == 0x84;  // x(%rsp)
  if ((near || far) && fourth == 0x24 && (second == 0x89 || second == 0x8d)) {
    uint8_t length = near ? 5 : 8;
    if (first == 0x48 && second == 0x8d && (third & 0x38) == 0x28)
      return {length, true, number(4, near ? 1 : 4)};
    return {length, false, 0};
  }
  return {};
}

bool IsGoroutineEnd(const CodeWindow& code) {
  return code.before >= 1 && code.after >= 6 && code.At(-1) == 0x90 && code.At(0) == 0xe8 &&
         code.At(5) == 0x90;
}

uint8_t LandingMarkSize(const CodeWindow& code) {
  return code.after >= 4 && std::memcmp(code.bytes + CodeWindow::kBefore, "\xf3\x0f\x1e\xfa", 4) == 0 ? 4 : 0;
}

bool JumpsThroughMemory(const CodeWindow& code, uintptr_t address, uintptr_t* pointer) {
  int at = code.after >= 1 && code.At(0) == 0xf2 ? 1 : 0;  // the `bnd` prefix
  if (code.after < at + 6 || code.At(at) != 0xff || code.At(at + 1) != 0x25) return false;  // jmp *x(%rip)
  int32_t distance;
  std::memcpy(&distance, code.bytes + CodeWindow::kBefore + at + 2, sizeof distance);
  *pointer =
      address + static_cast<uintptr_t>(at + 6) + static_cast<uintptr_t>(static_cast<intptr_t>(distance));
  return true;
}

}  // namespace profagent
