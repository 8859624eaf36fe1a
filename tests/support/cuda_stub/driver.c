/* A driver without a GPU; runtime.c says which environment variables it follows. */
#include "devices.h"

enum { NO_DEVICE = 100, INVALID_DEVICE = 101 };

int cuInit(unsigned flags) { return setting("CUDA_STUB_INIT", device_count() ? 0 : NO_DEVICE); }
int cuDriverGetVersion(int *out) { *out = driver_version(); return 0; }
int cuDeviceGetCount(int *out) { *out = device_count(); return 0; }
int cuDeviceGet(int *out, int id) { *out = id; return machine_device(id) < 0 ? INVALID_DEVICE : 0; }
int cuDeviceGetName(char *out, int length, int id) { snprintf(out, length, "Stub"); return 0; }
int cuDeviceGetAttribute(int *out, int attribute, int id) {
    int major, minor;
    capability(id, &major, &minor);
    *out = attribute == 75 ? major : attribute == 76 ? minor : 0;
    return 0;
}
int cuTensorMapEncodeTiled(void) { return 0; }
