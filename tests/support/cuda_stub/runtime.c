/* A CUDA runtime without a GPU, under which ONNX Runtime's CUDA provider runs with its own code.
 *
 * Memory of the device is the host's, behind addresses that the host may not touch: it is mapped
 * twice, and the copies made here use the other mapping. Copies are real and counted. Kernels do
 * nothing. Graphs capture copies, and a launch repeats them.
 *
 * Environment, read at each use:
 *   CUDA_STUB_MEMORY      bytes of each device, 4 GiB by default, 64 GiB at most in all
 *   CUDA_STUB_FILL        byte that fresh memory holds, 255 by default: floats of it are NaN
 *   CUDA_STUB_CAPABILITY  compute capability of each device, 9.0 by default: 7.0,9.0 is that of two
 *   CUDA_STUB_DRIVER      version of CUDA that the driver is made for, 13000 by default
 *   CUDA_STUB_DEVICES     number of devices, 1 by default; CUDA_VISIBLE_DEVICES chooses among them
 *   CUDA_STUB_FAIL        KIND:ERROR@CALL, such as launch:700@3: the third launch since the last
 *                         stub_reset fails with error 700, which sticks, as 700 and 719 do
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <fcntl.h>

#include "devices.h"
#include "types.h"

enum { OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, ILLEGAL_ADDRESS = 700, LAUNCH_FAILURE = 719,
       CAPTURE_UNSUPPORTED = 900 };
enum { HOST, PINNED, DEVICE };
enum { ALIGNMENT = 512, MAX_BLOCKS = 1 << 16 };
static const size_t MAPPED_BYTES = (size_t)64 << 30;

/* ---- What tests see ---- */

/* One number for each kind of call; `COUNTERS` in stub.py has the same order. */
enum Kind { UPLOAD, UPLOAD_BYTES, DOWNLOAD, DOWNLOAD_BYTES, PAGEABLE_DOWNLOAD, COPY, COPY_BYTES,
            MALLOC, USED_BYTES, PEAK_BYTES, LAUNCH, CAPTURE, GRAPH_LAUNCH, SYNCHRONIZE, KINDS };
static const char *const NAMES[KINDS] = {
    [UPLOAD] = "upload", [DOWNLOAD] = "download", [COPY] = "copy", [MALLOC] = "malloc",
    [LAUNCH] = "launch", [CAPTURE] = "capture", [GRAPH_LAUNCH] = "graph_launch",
    [SYNCHRONIZE] = "synchronize"};

static uint64_t counters[KINDS];
static int sticky;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
#define LOCKED(...) do { pthread_mutex_lock(&lock); __VA_ARGS__; pthread_mutex_unlock(&lock); } while (0)

void stub_counters(uint64_t *out) { LOCKED(memcpy(out, counters, sizeof counters)); }

void stub_reset(void) {
    LOCKED(uint64_t used = counters[USED_BYTES]; memset(counters, 0, sizeof counters);
           counters[USED_BYTES] = counters[PEAK_BYTES] = used; sticky = 0);
}

static size_t device_bytes(void) { return setting("CUDA_STUB_MEMORY", (size_t)4 << 30); }

/* Counts a call, and returns the error that is to happen in it. */
static int count(enum Kind kind) {
    char name[32];
    int error = 0;
    uint64_t call = 0;
    const char *fail = getenv("CUDA_STUB_FAIL");
    LOCKED(
        counters[kind]++;
        if (!sticky && fail && sscanf(fail, "%31[a-z_]:%d@%lu", name, &error, &call) == 3 &&
            !strcmp(name, NAMES[kind]) && counters[kind] == call) {
            if (error == ILLEGAL_ADDRESS || error == LAUNCH_FAILURE) sticky = error;
        } else error = 0;
        if (sticky) error = sticky);
    return error;
}

/* ---- Memory ---- */

typedef struct { char *at; size_t size; int place, device; } Block;
static Block blocks[MAX_BLOCKS]; /* by address, so that gaps between device blocks are found */
static int block_count;
static char *device, *view; /* one memory: as the device's addresses, and as the host may read it */
static int memory;
static _Thread_local int current; /* the device that the thread has chosen */
static size_t used_bytes[MAX_DEVICES]; /* of each device of the machine */

static char *host_view(const void *at) {
    size_t offset = (char *)at - device;
    return device && offset < MAPPED_BYTES ? view + offset : (char *)at;
}

void stub_read(const void *at, void *out, size_t size) { memcpy(out, host_view(at), size); }
void stub_write(void *at, const void *from, size_t size) { memcpy(host_view(at), from, size); }

static int place_of(const void *at) {
    if (device && (size_t)((char *)at - device) < MAPPED_BYTES) return DEVICE;
    for (int i = 0; i < block_count; i++)
        if ((size_t)((char *)at - blocks[i].at) < blocks[i].size) return blocks[i].place;
    return HOST;
}

static void map_device(void) {
    size_t size = MAPPED_BYTES;
    memory = memfd_create("cuda stub", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, size)) abort();
    device = mmap(NULL, size, PROT_NONE, MAP_SHARED | MAP_NORESERVE, memory, 0);
    view = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory, 0);
    if (device == MAP_FAILED || view == MAP_FAILED) abort();
}

static void insert(int index, Block block) {
    memmove(blocks + index + 1, blocks + index, (block_count++ - index) * sizeof block);
    blocks[index] = block;
}

/* Takes the first gap that is large enough. */
static int take_device(void **out, size_t size) {
    if (!device) map_device();
    int owner = machine_device(current);
    if (owner < 0) return INVALID_DEVICE;
    if (used_bytes[owner] + size > device_bytes()) return OUT_OF_MEMORY;
    char *at = device;
    for (int i = 0; i <= block_count; i++) {
        if (i < block_count && blocks[i].place != DEVICE) continue;
        char *end = i < block_count ? blocks[i].at : device + MAPPED_BYTES;
        if (block_count < MAX_BLOCKS && at + size <= end) {
            memset(host_view(at), setting("CUDA_STUB_FILL", 255), size);
            insert(i, (Block){*out = at, size, DEVICE, owner});
            used_bytes[owner] += size;
            counters[USED_BYTES] += size;
            if (counters[PEAK_BYTES] < counters[USED_BYTES]) counters[PEAK_BYTES] = counters[USED_BYTES];
            return 0;
        }
        if (i < block_count) at = blocks[i].at + blocks[i].size;
    }
    return OUT_OF_MEMORY;
}

static int take(void **out, size_t size, int place) {
    int error = count(MALLOC);
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + (size ? 0 : ALIGNMENT);
    if (error) return error;
    if (place == DEVICE) { LOCKED(error = take_device(out, size)); return error; }
    if (block_count == MAX_BLOCKS || posix_memalign(out, ALIGNMENT, size)) return OUT_OF_MEMORY;
    LOCKED(insert(block_count, (Block){*out, size, place}));
    return 0;
}

static int give(void *at) {
    pthread_mutex_lock(&lock);
    for (int i = 0; at && i < block_count; i++) {
        if (blocks[i].at != at) continue;
        if (blocks[i].place == DEVICE) {
            used_bytes[blocks[i].device] -= blocks[i].size;
            counters[USED_BYTES] -= blocks[i].size;
            fallocate(memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, blocks[i].at - device, blocks[i].size);
        } else free(at);
        memmove(blocks + i, blocks + i + 1, (--block_count - i) * sizeof *blocks);
        break;
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

/* ---- Copies and graphs ---- */

typedef struct { void *to; const void *from; size_t size; } Copy;
typedef struct { Copy *copies; int count; } Graph;
static Graph *capturing;

static int copy(void *to, const void *from, size_t size) {
    int target, source;
    LOCKED(target = place_of(to); source = place_of(from));
    if (capturing) {
        if (target == HOST || source == HOST) return CAPTURE_UNSUPPORTED;
        capturing->copies = realloc(capturing->copies, ++capturing->count * sizeof(Copy));
        capturing->copies[capturing->count - 1] = (Copy){to, from, size};
        return 0;
    }
    enum Kind kind = source == target ? COPY : target == DEVICE ? UPLOAD : source == DEVICE ? DOWNLOAD : COPY;
    int error = count(kind);
    if (error) return error;
    counters[kind == COPY ? COPY_BYTES : kind + 1] += size;
    counters[PAGEABLE_DOWNLOAD] += kind == DOWNLOAD && target == HOST;
    memmove(host_view(to), host_view(from), size);
    return 0;
}

static int fill(void *at, int value, size_t size) { memset(host_view(at), value, size); return 0; }

int cudaMalloc(void **out, size_t size) { return take(out, size, DEVICE); }
int cudaMallocFromPoolAsync(void **out, size_t size, void *pool, void *stream) { return take(out, size, DEVICE); }
int cudaFree(void *at) { return give(at); }
int cudaFreeAsync(void *at, void *stream) { return give(at); }
int cudaMallocHost(void **out, size_t size) { return take(out, size, PINNED); }
int cudaHostAlloc(void **out, size_t size, unsigned flags) { return take(out, size, PINNED); }
int cudaFreeHost(void *at) { return give(at); }
int cudaMemGetInfo(size_t *left, size_t *all) {
    size_t used = used_bytes[machine_device(current)];
    *all = device_bytes(), *left = *all > used ? *all - used : 0;
    return sticky;
}
int cudaMemcpy(void *to, const void *from, size_t size, int kind) { return copy(to, from, size); }
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) { return copy(to, from, size); }
int cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height, int kind, void *stream) {
    int error = 0;
    for (size_t i = 0; i < height && !error; i++) error = copy((char *)to + i * to_pitch, (const char *)from + i * from_pitch, width);
    return error;
}
int cudaMemcpyFromSymbol(void *to, const void *symbol, size_t size, size_t offset, int kind) { return fill(to, 0, size); }
int cudaMemset(void *at, int value, size_t size) { return fill(at, value, size); }
int cudaMemsetAsync(void *at, int value, size_t size, void *stream) { return fill(at, value, size); }
int cudaPointerGetAttributes(PointerAttributes *out, const void *at) {
    int place;
    LOCKED(place = place_of(at));
    memset(out, 0, sizeof *out);
    out->type = place == DEVICE ? 2 : place == PINNED ? 1 : 0;
    out->devicePointer = (void *)at;
    out->hostPointer = place == DEVICE ? NULL : (void *)at;
    return 0;
}

int cudaStreamIsCapturing(void *stream, int *status) { *status = capturing != NULL; return 0; }
int cudaStreamBeginCapture(void *stream, int mode) { capturing = calloc(1, sizeof *capturing); return count(CAPTURE); }
int cudaStreamEndCapture(void *stream, void **graph) { *graph = capturing; capturing = NULL; return 0; }
int cudaGraphInstantiate(void **executable, void *graph, unsigned long long flags) {
    Graph *from = graph, *to = malloc(sizeof *to);
    *to = (Graph){malloc(from->count * sizeof(Copy)), from->count};
    memcpy(to->copies, from->copies, from->count * sizeof(Copy));
    *executable = to;
    return 0;
}
int cudaGraphLaunch(void *executable, void *stream) {
    Graph *graph = executable;
    int error = count(GRAPH_LAUNCH);
    for (int i = 0; i < graph->count && !error; i++) error = copy(graph->copies[i].to, graph->copies[i].from, graph->copies[i].size);
    return error;
}
int cudaGraphDestroy(void *graph) { free(((Graph *)graph)->copies); free(graph); return 0; }
int cudaGraphExecDestroy(void *graph) { return cudaGraphDestroy(graph); }

/* ---- Devices and errors ---- */

int cudaGetDeviceCount(int *out) { *out = device_count(); return 0; }
int cudaGetDevice(int *out) { *out = current; return 0; }
int cudaSetDevice(int id) { if (id < 0 || id >= device_count()) return INVALID_DEVICE; current = id; return 0; }
int cudaDriverGetVersion(int *out) { *out = driver_version(); return 0; }
int cudaRuntimeGetVersion(int *out) { *out = 13000; return 0; }
int cudaGetDeviceProperties(DeviceProperties *out, int id) {
    memset(out, 0, sizeof *out);
    strcpy(out->name, "Stub");
    capability(id, &out->major, &out->minor);
    out->totalGlobalMem = device_bytes();
    out->sharedMemPerBlock = 48 << 10, out->sharedMemPerBlockOptin = 227 << 10, out->sharedMemPerMultiprocessor = 228 << 10;
    out->regsPerBlock = out->regsPerMultiprocessor = 64 << 10;
    out->warpSize = 32, out->multiProcessorCount = 132;
    out->maxThreadsPerBlock = 1024, out->maxThreadsPerMultiProcessor = 2048, out->maxBlocksPerMultiProcessor = 32;
    out->maxThreadsDim[0] = out->maxThreadsDim[1] = 1024, out->maxThreadsDim[2] = 64;
    out->maxGridSize[0] = INT32_MAX, out->maxGridSize[1] = out->maxGridSize[2] = UINT16_MAX;
    out->totalConstMem = 64 << 10, out->memPitch = INT32_MAX, out->textureAlignment = ALIGNMENT;
    out->l2CacheSize = 50 << 20, out->memoryBusWidth = 5120;
    out->concurrentKernels = out->unifiedAddressing = 1, out->asyncEngineCount = 3;
    return 0;
}
int cudaDeviceGetAttribute(int *out, int attribute, int id) {
    DeviceProperties all;
    cudaGetDeviceProperties(&all, id);
    switch (attribute) {
        case 1: *out = all.maxThreadsPerBlock; break;
        case 8: *out = all.sharedMemPerBlock; break;
        case 10: *out = all.warpSize; break;
        case 12: *out = all.regsPerBlock; break;
        case 16: *out = all.multiProcessorCount; break;
        case 39: *out = all.maxThreadsPerMultiProcessor; break;
        case 75: *out = all.major; break;
        case 76: *out = all.minor; break;
        case 81: *out = all.sharedMemPerMultiprocessor; break;
        case 82: *out = all.regsPerMultiprocessor; break;
        case 97: *out = all.sharedMemPerBlockOptin; break;
        default: *out = 1;
    }
    return 0;
}
const char *cudaGetErrorName(int error) {
    switch (error) {
        case 0: return "cudaSuccess";
        case OUT_OF_MEMORY: return "cudaErrorMemoryAllocation";
        case ILLEGAL_ADDRESS: return "cudaErrorIllegalAddress";
        case LAUNCH_FAILURE: return "cudaErrorLaunchFailure";
        default: return "cudaErrorUnknown";
    }
}
const char *cudaGetErrorString(int error) {
    switch (error) {
        case 0: return "no error";
        case OUT_OF_MEMORY: return "out of memory";
        case ILLEGAL_ADDRESS: return "an illegal memory access was encountered";
        case LAUNCH_FAILURE: return "unspecified launch failure";
        default: return "an error of the stub";
    }
}
int cudaGetLastError(void) { return sticky; }
int cudaPeekAtLastError(void) { return sticky; }
int cudaDeviceSynchronize(void) { return count(SYNCHRONIZE); }

/* ---- Streams, events, pools and kernels: handles, and nothing behind them ---- */

static int handle(void *out) { *(void **)out = malloc(16); return 0; }
static int drop(void *it) { free(it); return 0; }

int cudaStreamCreate(void **out) { return handle(out); }
int cudaStreamCreateWithFlags(void **out, unsigned flags) { return handle(out); }
int cudaStreamDestroy(void *stream) { return drop(stream); }
int cudaStreamSynchronize(void *stream) { return count(SYNCHRONIZE); }
int cudaStreamWaitEvent(void *stream, void *event, unsigned flags) { return 0; }
int cudaEventCreate(void **out) { return handle(out); }
int cudaEventCreateWithFlags(void **out, unsigned flags) { return handle(out); }
int cudaEventDestroy(void *event) { return drop(event); }
int cudaEventRecord(void *event, void *stream) { return 0; }
int cudaEventRecordWithFlags(void *event, void *stream, unsigned flags) { return 0; }
int cudaEventSynchronize(void *event) { return 0; }
int cudaEventElapsedTime(float *out, void *start, void *end) { *out = 0.01f; return 0; }
int cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data) { function(data); return 0; }
int cudaMemPoolCreate(void **out, const void *properties) { return handle(out); }
int cudaMemPoolDestroy(void *pool) { return drop(pool); }
int cudaMemPoolGetAttribute(void *pool, int attribute, uint64_t *out) { *out = 0; return 0; }
int cudaMemPoolSetAttribute(void *pool, int attribute, void *value) { return 0; }
int cudaMemPoolTrimTo(void *pool, size_t kept) { return 0; }

int cudaLaunchKernel(const void *kernel, Dim3 grid, Dim3 block, void **arguments, size_t shared, void *stream) { return count(LAUNCH); }
int cudaLaunchKernelExC(const void *config, const void *kernel, void **arguments) { return count(LAUNCH); }
int cudaLaunchCooperativeKernel(const void *kernel, Dim3 grid, Dim3 block, void **arguments, size_t shared, void *stream) { return count(LAUNCH); }
int __cudaLaunchKernel(void *kernel, Dim3 grid, Dim3 block, void **arguments, size_t shared, void *stream) { return count(LAUNCH); }
int cudaFuncGetAttributes(FunctionAttributes *out, const void *kernel) {
    memset(out, 0, sizeof *out);
    out->maxThreadsPerBlock = 1024, out->numRegs = 32, out->binaryVersion = out->ptxVersion = 90;
    return 0;
}
int cudaFuncSetAttribute(const void *kernel, int attribute, int value) { return 0; }
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *out, const void *kernel, int threads, size_t shared, unsigned flags) { *out = 1; return 0; }
int cudaGetDriverEntryPointByVersion(const char *name, void **out, unsigned version, unsigned long long flags, int *found) { *out = NULL; if (found) *found = 1; return 0; }
int cudaLibraryLoadData(void **out, const void *code, void *a, void **b, unsigned c, void *d, void **e, unsigned f) { return handle(out); }
int cudaLibraryUnload(void *library) { return drop(library); }
int cudaLibraryGetKernel(void **out, void *library, const char *name) { return handle(out); }
int cudaKernelSetAttributeForDevice(void *kernel, int attribute, int value, int id) { return 0; }
int __cudaGetKernel(void **out, const void *function) { *out = (void *)function; return 0; }

static _Thread_local struct { Dim3 grid, block; size_t shared; void *stream; } pushed;
unsigned __cudaPushCallConfiguration(Dim3 grid, Dim3 block, size_t shared, void *stream) {
    pushed.grid = grid, pushed.block = block, pushed.shared = shared, pushed.stream = stream;
    return 0;
}
int __cudaPopCallConfiguration(Dim3 *grid, Dim3 *block, size_t *shared, void **stream) {
    *grid = pushed.grid, *block = pushed.block, *shared = pushed.shared, *stream = pushed.stream;
    return 0;
}
static void *binary;
void **__cudaRegisterFatBinary(void *code) { return &binary; }
void __cudaRegisterFatBinaryEnd(void **handle) {}
void __cudaUnregisterFatBinary(void **handle) {}
void __cudaRegisterFunction(void **handle, const char *function, char *name, const char *device_name, int limit, void *a, void *b, void *c, void *d, int *e) {}
void __cudaRegisterVar(void **handle, char *variable, char *name, const char *device_name, int external, size_t size, int constant, int global) {}
