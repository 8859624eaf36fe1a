/* A driver without a GPU; runtime.c says which environment variables it follows. */
#include <stdio.h>
#include <stdlib.h>

static int setting(const char *name, int otherwise) { const char *text = getenv(name); return text ? atoi(text) : otherwise; }

int cuInit(unsigned flags) { return setting("CUDA_STUB_INIT", 0); }
int cuDriverGetVersion(int *out) { *out = setting("CUDA_STUB_DRIVER", 13000); return 0; }
int cuDeviceGetCount(int *out) { *out = setting("CUDA_STUB_DEVICES", 1); return 0; }
int cuDeviceGet(int *out, int id) { *out = id; return id < 0 || id >= setting("CUDA_STUB_DEVICES", 1) ? 101 : 0; }
int cuDeviceGetName(char *out, int length, int id) { snprintf(out, length, "Stub"); return 0; }
int cuDeviceGetAttribute(int *out, int attribute, int id) {
    const char *text = getenv("CUDA_STUB_CAPABILITY");
    int major = 9, minor = 0;
    if (text) sscanf(text, "%d.%d", &major, &minor);
    *out = attribute == 75 ? major : attribute == 76 ? minor : 0;
    return 0;
}
int cuTensorMapEncodeTiled(void) { return 0; }
