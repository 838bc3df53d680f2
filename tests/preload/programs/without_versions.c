// Calls a library that was linked without libc (old_versions.c).
int RunWithoutVersions(void);

int main(void) { return RunWithoutVersions(); }
