// What Oclgrind 21.10's --uninitialized lacks for Fovea's kernels, as a library to preload in front of it, which
// Scripts/oclgrind-check compiles. It replaces functions that Oclgrind's library exports, on x86-64.
//
// Programs: LLVM instructions that it refuses, or takes wrongly, become others that mean the same. Where a variable is
// declared, it is uninitialized, each time that a loop comes by and not only when its function starts.
//
// Shadows are what it knows of each byte of memory. A write from the host set a buffer's shadow to the size of that
// write, and so did each pattern of a fill: what lies behind it counted as uninitialized, and what kernels stored there
// was forgotten. A new buffer had the shadow of the one that had its number before.
//
// Pools of shadows belong to threads. Outside of kernels only the thread that made the context had one: a write from
// another crashed.
//
// And for controls, OCLGRIND_LEAVE_OUT in the environment is a text that is left out of the source of each program.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The next definition of a function in the order of loading: Oclgrind's own.
static void *original(const char *name) {
  void *const function = dlsym(RTLD_NEXT, name);
  if (!function) {
    fprintf(stderr, "oclgrind_shim: this Oclgrind has no %s; it is for 21.10\n", name);
    exit(70);
  }
  return function;
}
#define ORIGINAL(type, name) ((type)original(name))

// MARK: Sources

void *clCreateProgramWithSource(void *context, unsigned count, const char **texts, const size_t *lengths, int *status) {
  const char *const leftOut = getenv("OCLGRIND_LEAVE_OUT");
  size_t size = 0, ends[count];
  for (unsigned i = 0; i < count; i++)
    ends[i] = size += lengths && lengths[i] ? lengths[i] : strlen(texts[i]);
  char *const source = malloc(size + 1);
  for (unsigned i = 0; i < count; i++)
    memcpy(source + (i ? ends[i - 1] : 0), texts[i], ends[i] - (i ? ends[i - 1] : 0));
  source[size] = 0;
  // Spaces in its place keep the numbers of lines and columns.
  if (leftOut && *leftOut)
    for (char *found = source; (found = strstr(found, leftOut));)
      memset(found, ' ', strlen(leftOut));
  void *const program = ORIGINAL(void *(*)(void *, unsigned, const char *const *, const size_t *, int *),
                                 __func__)(context, 1, &(const char *){source}, &size, status);
  free(source);
  return program;
}

// MARK: Programs, through LLVM's C interface

typedef struct LLVMOpaqueValue *Value;
typedef struct LLVMOpaqueType *Type;
typedef struct LLVMOpaqueBasicBlock *Block;
typedef struct LLVMOpaqueModule *Module;
typedef struct LLVMOpaqueContext *LLVMContext;
typedef struct LLVMOpaqueBuilder *Builder;
enum { opcodeCall = 45, opcodeShuffleVector = 52, opcodeFreeze = 68 };

// As they are in llvm-c/Core.h.
Value LLVMGetFirstFunction(Module);
Value LLVMGetNextFunction(Value);
Block LLVMGetFirstBasicBlock(Value);
Block LLVMGetNextBasicBlock(Block);
Value LLVMGetFirstInstruction(Block);
Value LLVMGetNextInstruction(Value);
int LLVMGetInstructionOpcode(Value);
Value LLVMGetOperand(Value, unsigned);
Value LLVMGetCalledValue(Value);
const char *LLVMGetValueName2(Value, size_t *);
void LLVMReplaceAllUsesWith(Value, Value);
void LLVMInstructionEraseFromParent(Value);
unsigned LLVMGetNumMaskElements(Value);
int LLVMGetMaskValue(Value, unsigned);
LLVMContext LLVMGetModuleContext(Module);
Type LLVMInt8TypeInContext(LLVMContext);
Type LLVMInt32TypeInContext(LLVMContext);
Type LLVMTypeOf(Value);
Type LLVMGetElementType(Type);
Value LLVMConstInt(Type, unsigned long long, int);
Value LLVMConstVector(Value *, unsigned);
Value LLVMGetUndef(Type);
Builder LLVMCreateBuilderInContext(LLVMContext);
void LLVMPositionBuilderBefore(Builder, Value);
Value LLVMBuildShuffleVector(Builder, Value, Value, Value, const char *);
Value LLVMBuildInsertElement(Builder, Value, Value, Value, const char *);
Value LLVMBuildMemSet(Builder, Value, Value, Value, unsigned);
void LLVMDisposeBuilder(Builder);
typedef struct LLVMOpaquePassManager *PassManager;
PassManager LLVMCreatePassManager(void);
void LLVMAddAlwaysInlinerPass(PassManager); // of llvm-c/Transforms/IPO.h
int LLVMRunPassManager(PassManager, Module);
void LLVMDisposePassManager(PassManager);

// Lanes that a shuffle leaves undefined: -1 as a lane's source is read far outside of the operands there. The shuffle
// takes lane 0 instead, and an insertion of undef says what the lane is.
static void nameUndefinedLanes(Value shuffle, Builder builder, Type integer) {
  const unsigned lanes = LLVMGetNumMaskElements(shuffle);
  Value mask[lanes];
  bool whole = true;
  for (unsigned i = 0; i < lanes; i++) {
    const int source = LLVMGetMaskValue(shuffle, i);
    mask[i] = LLVMConstInt(integer, source < 0 ? 0 : source, 0);
    whole = whole && source >= 0;
  }
  if (whole)
    return;
  LLVMPositionBuilderBefore(builder, shuffle);
  Value result = LLVMBuildShuffleVector(builder, LLVMGetOperand(shuffle, 0), LLVMGetOperand(shuffle, 1),
                                        LLVMConstVector(mask, lanes), "");
  const Value undefined = LLVMGetUndef(LLVMGetElementType(LLVMTypeOf(result)));
  for (unsigned i = 0; i < lanes; i++)
    if (LLVMGetMaskValue(shuffle, i) < 0)
      result = LLVMBuildInsertElement(builder, result, undefined, LLVMConstInt(integer, i, 0), "");
  LLVMReplaceAllUsesWith(shuffle, result);
  LLVMInstructionEraseFromParent(shuffle);
}

static void makeDigestible(Module module) {
  const LLVMContext context = LLVMGetModuleContext(module);
  // Functions that have to be inlined and are not yet, where a program has no optimizations: it crashes at their calls.
  const PassManager passes = LLVMCreatePassManager();
  LLVMAddAlwaysInlinerPass(passes);
  LLVMRunPassManager(passes, module);
  LLVMDisposePassManager(passes);
  const Builder builder = LLVMCreateBuilderInContext(context);
  for (Value function = LLVMGetFirstFunction(module); function; function = LLVMGetNextFunction(function))
    for (Block block = LLVMGetFirstBasicBlock(function); block; block = LLVMGetNextBasicBlock(block))
      for (Value instruction = LLVMGetFirstInstruction(block), next; instruction; instruction = next) {
        next = LLVMGetNextInstruction(instruction);
        switch (LLVMGetInstructionOpcode(instruction)) {
        case opcodeFreeze: // the value itself, initialized or not
          LLVMReplaceAllUsesWith(instruction, LLVMGetOperand(instruction, 0));
          LLVMInstructionEraseFromParent(instruction);
          break;
        case opcodeCall: {
          size_t length;
          const char *const name = LLVMGetValueName2(LLVMGetCalledValue(instruction), &length);
          if (strcmp(name, "llvm.experimental.noalias.scope.decl") == 0) {
            // A hint for optimizations.
            LLVMInstructionEraseFromParent(instruction);
          } else if (strncmp(name, "llvm.lifetime.start", 19) == 0) {
            // A variable's declaration: in a loop it is uninitialized each time.
            LLVMPositionBuilderBefore(builder, instruction);
            LLVMBuildMemSet(builder, LLVMGetOperand(instruction, 1), LLVMGetUndef(LLVMInt8TypeInContext(context)),
                            LLVMGetOperand(instruction, 0), 1);
            LLVMInstructionEraseFromParent(instruction);
          }
          break;
        }
        case opcodeShuffleVector:
          nameUndefinedLanes(instruction, builder, LLVMInt32TypeInContext(context));
          break;
        }
      }
  LLVMDisposeBuilder(builder);
}

// std::unique_ptr<llvm::Module> clang::CodeGenAction::takeModule(): the program as compiled.
Module *_ZN5clang13CodeGenAction10takeModuleEv(Module *result, void *action) {
  ORIGINAL(Module * (*)(Module *, void *), __func__)(result, action);
  if (*result)
    makeDigestible(*result);
  return result;
}

// MARK: Shadows

#define globalSpace 1
// oclgrind::ShadowMemory's isAddressValid(address, size) and store(source, address, size), Uninitialized's
// getShadowMemory(space, workItem, workGroup), Memory's getAddressSpace().
bool _ZNK8oclgrind12ShadowMemory14isAddressValidEmm(const void *shadow, size_t address, size_t size);
void _ZN8oclgrind12ShadowMemory5storeEPKhmm(void *shadow, const uint8_t *source, size_t address, size_t size);
void *_ZNK8oclgrind13Uninitialized15getShadowMemoryEjPKNS_8WorkItemEPKNS_9WorkGroupE(const void *plugin, unsigned space,
                                                                                     const void *item,
                                                                                     const void *group);
unsigned _ZNK8oclgrind6Memory15getAddressSpaceEv(const void *memory);

// Uninitialized's objects and their contexts, the newest first.
typedef struct Plugin {
  const void *context;
  const void *plugin;
  struct Plugin *older;
} Plugin;
static Plugin *plugins;
static pthread_mutex_t pluginsLock = PTHREAD_MUTEX_INITIALIZER;

// Uninitialized(context)
void _ZN8oclgrind13UninitializedC1EPKNS_7ContextE(void *plugin, const void *context) {
  ORIGINAL(void (*)(void *, const void *), __func__)(plugin, context);
  Plugin *const entry = malloc(sizeof *entry);
  pthread_mutex_lock(&pluginsLock);
  *entry = (Plugin){context, plugin, plugins};
  plugins = entry;
  pthread_mutex_unlock(&pluginsLock);
}

// ShadowMemory::allocate(address, size), before a store: a shadow that reaches so far stays.
typedef void Allocate(void *shadow, size_t address, size_t size);
#define allocate _ZN8oclgrind12ShadowMemory8allocateEmm
void allocate(void *shadow, size_t address, size_t size) {
  static Allocate *allocateAnew;
  if (!allocateAnew)
    allocateAnew = original(__func__);
  if (!_ZNK8oclgrind12ShadowMemory14isAddressValidEmm(shadow, address, size))
    allocateAnew(shadow, address, size);
}

// Context::notifyMemoryAllocated(memory, address, size, flags, data): a buffer's shadow has its size from the start.
void _ZNK8oclgrind7Context21notifyMemoryAllocatedEPKNS_6MemoryEmmmPKh(const void *context, const void *memory,
                                                                      size_t address, size_t size, uint64_t flags,
                                                                      const uint8_t *data) {
  ORIGINAL(void (*)(const void *, const void *, size_t, size_t, uint64_t, const uint8_t *), __func__)
  (context, memory, address, size, flags, data);
  if (_ZNK8oclgrind6Memory15getAddressSpaceEv(memory) != globalSpace)
    return;
  pthread_mutex_lock(&pluginsLock);
  const Plugin *entry = plugins;
  while (entry && entry->context != context)
    entry = entry->older;
  pthread_mutex_unlock(&pluginsLock);
  if (!entry)
    return;
  void *const shadow = _ZNK8oclgrind13Uninitialized15getShadowMemoryEjPKNS_8WorkItemEPKNS_9WorkGroupE(
      entry->plugin, globalSpace, NULL, NULL);
  uint8_t *const bits = malloc(size);
  memset(bits, data ? 0 : 0xff, size); // ones: uninitialized
  ORIGINAL(Allocate *, "_ZN8oclgrind12ShadowMemory8allocateEmm")(shadow, address, size);
  _ZN8oclgrind12ShadowMemory5storeEPKhmm(shadow, bits, address, size);
  free(bits);
}

// MARK: Pools

// ShadowContext's createMemoryPool() and destroyMemoryPool(), which count their calls in each thread.
void _ZN8oclgrind13ShadowContext16createMemoryPoolEv(void *unused);
void _ZN8oclgrind13ShadowContext17destroyMemoryPoolEv(void *unused);

// What Uninitialized does outside of work-groups.
#define WITH_POOL(name, parameters, ...)                                                                               \
  void name parameters {                                                                                               \
    _ZN8oclgrind13ShadowContext16createMemoryPoolEv(NULL);                                                             \
    ORIGINAL(void(*) parameters, #name)(__VA_ARGS__);                                                                  \
    _ZN8oclgrind13ShadowContext17destroyMemoryPoolEv(NULL);                                                            \
  }
WITH_POOL(_ZN8oclgrind13Uninitialized15hostMemoryStoreEPKNS_6MemoryEmmPKh,
          (void *plugin, const void *memory, size_t address, size_t size, const uint8_t *data), plugin, memory, address,
          size, data)
WITH_POOL(_ZN8oclgrind13Uninitialized9memoryMapEPKNS_6MemoryEmmmm,
          (void *plugin, const void *memory, size_t address, size_t offset, size_t size, uint64_t flags), plugin,
          memory, address, offset, size, flags)
WITH_POOL(_ZN8oclgrind13Uninitialized11kernelBeginEPKNS_16KernelInvocationE, (void *plugin, const void *invocation),
          plugin, invocation)
