// Code as it is met in the wild: without unwind information, with and without a frame. Each raises SIGUSR1 through a
// system call made right there, so the interrupted instruction is known.
#pragma once

#include <cstdint>

extern "C" {
void NoCfiFrameless();                   // sub rsp, no frame pointer kept up, never calls
void NoCfiFramed(void (*call)());        // push rbp; mov rsp, rbp; calls
void NoCfiFirstInstruction();            // interrupted at its push rbp
void WithWildRegisters(uint64_t value);  // rbp is `value` at the signal
void CallsAtItsEnd(void (*call)());      // a call is its last instruction, another function follows
void FollowsImmediately();
void CfaInScratchRegister(void (*call)());
void CfaInMemory(void (*call)());          // at rsp + 16, and 8 more
void LosesR12();                           // calls kLosesR12Calls; restores r12 by rbp, its CFA is elsewhere
void KeepsReturnAddress(void (*call)());   // by its tables; it has a frame pointer
void LoopsByFramePointer(void (*call)());  // its caller is itself, by what its tables say
void CallsWrongCfi();                      // WrongCfiAtReturn: interrupted at kWrongReturn
void ThrowsToLandingPad();  // LandsInItsCaller: interrupted at kLanding, about to go on at a landing pad
// Without unwind information and frame pointer, as GMP's, x264's and OpenBLAS's.
void CallsBareReturns(void (*call)());  // by BareReturns, which calls and returns
void BareLeaves(void (*call)());        // calls, gives back what it took, returns
void BareTakesRoom();                   // rbp is a number; what earlier calls left in its room stays there
void BareCallsBare();                   // BareTakesRoom
void BareAlignsStack();                 // takes 28 KiB; rbx keeps the old stack pointer
void BareStub();                        // a PLT entry's jump to BareTakesRoom
void BareOnEmptyStack(void* stack);     // where a stack begins that nobody has written to
void BarePointsAtStack(
    void* stale);  // where rbp points by chance, a return address stands that nobody returns to
// Exported, so that they have names.
__attribute__((noinline)) void KnownCaller(void (*function)());
__attribute__((noinline)) void KnownHook(uint32_t skip);
__attribute__((noinline)) void CallsTheHook(uint32_t skip);
// To be copied to where no object is: as BareTakesRoom.
void MadeTakesRoom();
void CallsMadeCode();  // calls LeavesCallByPointer, then what kMadeCode points at
extern char kMadeTakesRoomEnd[];
extern void (*kLosesR12Calls)(), (*kMadeCode)();
extern char kFirstInstruction[], kWrongReturn[], kLanding[];
}
