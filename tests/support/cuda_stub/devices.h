/* The devices that a process over the stub sees, as CUDA numbers them for it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_DEVICES = 8 };

static uint64_t setting(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* Those of CUDA_VISIBLE_DEVICES in its order, up to the first that is not there; all without it. */
static int visible_devices(int *out) {
    int all = setting("CUDA_STUB_DEVICES", 1), count = 0;
    const char *text = getenv("CUDA_VISIBLE_DEVICES");
    while (count < MAX_DEVICES) {
        char *end = NULL;
        long id = text ? strtol(text, &end, 10) : count;
        if (end == text && text) break;
        if (id < 0 || id >= all) break;
        out[count++] = id;
        if (text && *end != ',') break;
        text = text ? end + 1 : NULL;
    }
    return count;
}

static int device_count(void) { int ids[MAX_DEVICES]; return visible_devices(ids); }

/* Which device of the machine a process means by a number, or -1. */
static int machine_device(int id) {
    int ids[MAX_DEVICES], count = visible_devices(ids);
    return id >= 0 && id < count ? ids[id] : -1;
}

/* The last of CUDA_STUB_CAPABILITY is that of all further devices. */
static void capability(int id, int *major, int *minor) {
    const char *text = getenv("CUDA_STUB_CAPABILITY");
    *major = 9, *minor = 0;
    for (int i = 0; text && i <= machine_device(id); i++) {
        int length = 0;
        sscanf(text, "%d.%d%n", major, minor, &length);
        if (text[length] != ',') break;
        text += length + 1;
    }
}

static int driver_version(void) { return setting("CUDA_STUB_DRIVER", 13000); }
