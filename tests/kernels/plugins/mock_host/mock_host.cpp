// SPDX-License-Identifier: Apache-2.0
// A host of TensorRT plugins: it loads a library as IPluginRegistry::loadLibrary does, and calls
// the plugins through TensorRT's interfaces alone. Python calls it through ctypes.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstring>
#include <deque>
#include <string>
#include <vector>

using namespace nvinfer1;

namespace {

class Log final : public ILogger {
  public:
    void log(Severity severity, const char* text) noexcept override {
        said += (severity == Severity::kERROR ? "E " : "? ") + std::string(text) + "\n";
    }
    std::string said;
};

class Finder final : public ILoggerFinder {
  public:
    ILogger* findLogger() override { return &log; }
    Log log;
};

// Return a length as text: a number if it is known, and an expression if it is not.
class Expression final : public IDimensionExpr, public apiv::VDimensionExpr {
  public:
    Expression(std::string text, bool constant, int64_t value)
        : text(std::move(text)), constant_(constant), value_(value) {
        mImpl = this;
    }
    bool isConstant() const override { return constant_; }
    int64_t getConstantValue() const override { return value_; }
    bool isSizeTensor() const override { return false; }
    std::string text;

  private:
    bool constant_;
    int64_t value_;
};

class Builder final : public IExprBuilder, public apiv::VExprBuilder {
  public:
    Builder() { mImpl = this; }
    const IDimensionExpr* constant(int64_t value) override {
        return &kept.emplace_back(std::to_string(value), true, value);
    }
    const IDimensionExpr* operation(DimensionOperation op, const IDimensionExpr& first,
                                    const IDimensionExpr& second) override {
        const auto& a = static_cast<const Expression&>(first);
        const auto& b = static_cast<const Expression&>(second);
        const char* sign = op == DimensionOperation::kPROD       ? "*"
                           : op == DimensionOperation::kCEIL_DIV ? " ceil/ "
                                                                 : "?";
        return &kept.emplace_back("(" + a.text + sign + b.text + ")", false, 0);
    }
    const IDimensionExpr* declareSizeTensor(int32_t, const IDimensionExpr&,
                                            const IDimensionExpr&) override {
        return nullptr;
    }
    std::deque<Expression> kept;
};

struct Tensor {
    int64_t dims[8];
    int32_t rank, type, format;
};

struct Field {
    const char* name;
    const void* data;
    int32_t type, length;
};

Finder finder;
std::string answer;

IPluginV3* plugin_of(void* handle) { return static_cast<IPluginV3*>(handle); }

template <typename Interface>
Interface* capability(void* handle, PluginCapabilityType type) {
    return static_cast<Interface*>(plugin_of(handle)->getCapabilityInterface(type));
}

IPluginV3OneBuild* build_of(void* handle) {
    return capability<IPluginV3OneBuild>(handle, PluginCapabilityType::kBUILD);
}

IPluginV3OneRuntime* runtime_of(void* handle) {
    return capability<IPluginV3OneRuntime>(handle, PluginCapabilityType::kRUNTIME);
}

PluginTensorDesc desc_of(const Tensor& tensor) {
    PluginTensorDesc desc{};
    desc.dims.nbDims = tensor.rank;
    std::memcpy(desc.dims.d, tensor.dims, sizeof tensor.dims);
    desc.type = static_cast<DataType>(tensor.type);
    desc.format = static_cast<TensorFormat>(tensor.format);
    desc.scale = -1.0f;
    return desc;
}

std::vector<PluginTensorDesc> descs_of(const Tensor* tensors, int count) {
    std::vector<PluginTensorDesc> descs;
    for (int i = 0; i < count; ++i) descs.push_back(desc_of(tensors[i]));
    return descs;
}

int outputs_of(void* plugin) { return build_of(plugin)->getNbOutputs(); }

// Tensors as an engine build describes them: lengths are unknown (-1), at most those of `tensors`.
std::vector<DynamicPluginTensorDesc> dynamic_of(const Tensor* tensors, int count) {
    std::vector<DynamicPluginTensorDesc> all;
    for (int i = 0; i < count; ++i) {
        DynamicPluginTensorDesc one{};
        one.desc = desc_of(tensors[i]);
        one.min = one.max = one.opt = one.desc.dims;
        for (int axis = 0; axis < one.desc.dims.nbDims; ++axis) one.desc.dims.d[axis] = -1;
        all.push_back(one);
    }
    return all;
}

std::string listed(const PluginFieldCollection* collection) {
    std::string text;
    for (int i = 0; i < collection->nbFields; ++i) {
        const PluginField& field = collection->fields[i];
        text += std::string(field.name) + " " + std::to_string(static_cast<int>(field.type)) + " " +
                std::to_string(field.length);
        for (int j = 0; field.data != nullptr && j < field.length; ++j) {
            if (field.type == PluginFieldType::kINT32) {
                text += " " + std::to_string(static_cast<const int32_t*>(field.data)[j]);
            } else if (field.type == PluginFieldType::kFLOAT32) {
                text += " " + std::to_string(static_cast<const float*>(field.data)[j]);
            } else {
                text +=
                    (j == 0 ? " " : "") + std::string(1, static_cast<const char*>(field.data)[j]);
            }
        }
        text += "\n";
    }
    return text;
}

}  // namespace

extern "C" {

// Return the messages logged since the last call.
const char* host_log() {
    answer.swap(finder.log.said);
    finder.log.said.clear();
    return answer.c_str();
}

// Load a library; return null and log the reason if it cannot be loaded.
void* host_load(const char* path) {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        finder.log.said += dlerror();
        return nullptr;
    }
    using SetFinder = void (*)(ILoggerFinder*);
    reinterpret_cast<SetFinder>(dlsym(library, "setLoggerFinder"))(&finder);
    return library;
}

static IPluginCreatorV3One* creator_of(void* library, const char* name) {
    using GetCreators = IPluginCreatorInterface* const* (*)(int32_t&);
    int32_t count = 0;
    auto* all = reinterpret_cast<GetCreators>(dlsym(library, "getCreators"))(count);
    for (int i = 0; i < count; ++i) {
        auto* creator = static_cast<IPluginCreatorV3One*>(all[i]);
        if (std::strcmp(creator->getPluginName(), name) == 0) return creator;
    }
    return nullptr;
}

// Return one line per creator: interface, name, version, namespace.
const char* host_creators(void* library) {
    using GetCreators = IPluginCreatorInterface* const* (*)(int32_t&);
    int32_t count = 0;
    auto* all = reinterpret_cast<GetCreators>(dlsym(library, "getCreators"))(count);
    answer.clear();
    for (int i = 0; i < count; ++i) {
        auto* creator = static_cast<IPluginCreatorV3One*>(all[i]);
        answer += std::string(all[i]->getInterfaceInfo().kind) + " | " + creator->getPluginName() +
                  " | " + creator->getPluginVersion() + " | " + creator->getPluginNamespace() +
                  "\n";
    }
    return answer.c_str();
}

const char* host_field_names(void* library, const char* name) {
    answer = listed(creator_of(library, name)->getFieldNames());
    return answer.c_str();
}

void* host_create(void* library, const char* name, const Field* fields, int count, int phase) {
    std::vector<PluginField> given;
    for (int i = 0; i < count; ++i) {
        given.emplace_back(fields[i].name, fields[i].data,
                           static_cast<PluginFieldType>(fields[i].type), fields[i].length);
    }
    const PluginFieldCollection collection{count, given.data()};
    return creator_of(library, name)
        ->createPlugin("node", &collection, static_cast<TensorRTPhase>(phase));
}

// Copy the serialized fields and create a plugin from them, as TensorRT does for a plan.
void* host_restore(void* library, const char* name, void* plugin) {
    const PluginFieldCollection* fields = runtime_of(plugin)->getFieldsToSerialize();
    std::deque<std::string> bytes, names;
    std::vector<PluginField> copies;
    for (int i = 0; i < fields->nbFields; ++i) {
        const PluginField& field = fields->fields[i];
        const int size = field.type == PluginFieldType::kCHAR ? 1 : 4;
        names.emplace_back(field.name);
        bytes.emplace_back(static_cast<const char*>(field.data),
                           static_cast<size_t>(size * field.length));
        copies.emplace_back(names.back().c_str(), bytes.back().data(), field.type, field.length);
    }
    const PluginFieldCollection collection{fields->nbFields, copies.data()};
    return creator_of(library, name)->createPlugin("node", &collection, TensorRTPhase::kRUNTIME);
}

void* host_clone(void* plugin) { return plugin_of(plugin)->clone(); }
void* host_attach(void* plugin) { return runtime_of(plugin)->attachToContext(nullptr); }
void host_destroy(void* plugin) { delete plugin_of(plugin); }

const char* host_serialized(void* plugin) {
    answer = listed(runtime_of(plugin)->getFieldsToSerialize());
    return answer.c_str();
}

const char* host_identity(void* plugin) {
    auto* core = capability<IPluginV3OneCore>(plugin, PluginCapabilityType::kCORE);
    answer = std::string(plugin_of(plugin)->getInterfaceInfo().kind) + " | " +
             core->getPluginName() + " | " + core->getPluginVersion() + " | " +
             core->getPluginNamespace();
    return answer.c_str();
}

// Return the lengths of one tensor; unknown ones have names such as `i0d1`.
static DimsExprs expressions_of(const Tensor& tensor, const std::string& name, Builder& builder) {
    DimsExprs shape{};
    shape.nbDims = tensor.rank;
    for (int axis = 0; axis < tensor.rank; ++axis) {
        const int64_t length = tensor.dims[axis];
        const std::string own = name + "d" + std::to_string(axis);
        shape.d[axis] =
            length >= 0 ? builder.constant(length) : &builder.kept.emplace_back(own, false, 0);
    }
    return shape;
}

// Return the lengths of the outputs, separated by ` / `, or an empty text if the plugin fails.
// `values` are the values of shape inputs, as lengths.
const char* host_shape(void* plugin, const Tensor* inputs, int count, const Tensor* values,
                       int value_count) {
    Builder builder;
    std::vector<DimsExprs> shapes, given;
    for (int i = 0; i < count; ++i) {
        shapes.push_back(expressions_of(inputs[i], "i" + std::to_string(i), builder));
    }
    for (int i = 0; i < value_count; ++i) {
        given.push_back(expressions_of(values[i], "v" + std::to_string(i), builder));
    }
    std::vector<DimsExprs> outputs(static_cast<size_t>(outputs_of(plugin)));
    answer.clear();
    if (build_of(plugin)->getOutputShapes(shapes.data(), count, given.data(), value_count,
                                          outputs.data(), outputs_of(plugin), builder)) {
        return answer.c_str();
    }
    for (const DimsExprs& output : outputs) {
        answer += answer.empty() ? "" : " / ";
        for (int axis = 0; axis < output.nbDims; ++axis) {
            answer += (axis == 0 ? "" : " ") + static_cast<const Expression*>(output.d[axis])->text;
        }
    }
    return answer.c_str();
}

// `tensors` are the inputs, followed by the outputs.
int host_supports(void* plugin, int place, const Tensor* tensors, int count) {
    const auto all = dynamic_of(tensors, count);
    const int outputs = outputs_of(plugin);
    return build_of(plugin)->supportsFormatCombination(place, all.data(), count - outputs, outputs);
}

// Return the types of the outputs, separated by blanks.
const char* host_output_types(void* plugin, const int* types, int count) {
    std::vector<DataType> given, found(static_cast<size_t>(outputs_of(plugin)));
    for (int i = 0; i < count; ++i) given.push_back(static_cast<DataType>(types[i]));
    answer.clear();
    if (build_of(plugin)->getOutputDataTypes(found.data(), outputs_of(plugin), given.data(),
                                             count)) {
        return answer.c_str();
    }
    for (DataType type : found) {
        answer += (answer.empty() ? "" : " ") + std::to_string(static_cast<int>(type));
    }
    return answer.c_str();
}

int host_configure(void* plugin, const Tensor* tensors, int count) {
    const auto all = dynamic_of(tensors, count);
    const int outputs = outputs_of(plugin), inputs = count - outputs;
    return build_of(plugin)->configurePlugin(all.data(), inputs, all.data() + inputs, outputs);
}

size_t host_workspace(void* plugin, const Tensor* tensors, int count) {
    const auto all = dynamic_of(tensors, count);
    const int outputs = outputs_of(plugin), inputs = count - outputs;
    return build_of(plugin)->getWorkspaceSize(all.data(), inputs, all.data() + inputs, outputs);
}

int host_change_shape(void* plugin, const Tensor* tensors, int count) {
    const auto all = descs_of(tensors, count);
    const int outputs = outputs_of(plugin), inputs = count - outputs;
    return runtime_of(plugin)->onShapeChange(all.data(), inputs, all.data() + inputs, outputs);
}

int host_enqueue(void* plugin, const Tensor* tensors, int count, const void* const* inputs,
                 void* const* outputs, void* workspace) {
    const auto all = descs_of(tensors, count);
    const PluginTensorDesc* first_output = all.data() + (count - outputs_of(plugin));
    return runtime_of(plugin)->enqueue(all.data(), first_output, inputs, outputs, workspace,
                                       nullptr);
}

// Defined in counting_memory.c, if it was preloaded.
__attribute__((weak)) void counting_begin();
__attribute__((weak)) int counting_end();

// The same on a stream; `count` becomes the number of allocations in the code of the plugin.
int host_counted_enqueue(void* plugin, const Tensor* tensors, int count, const void* const* inputs,
                         void* const* outputs, void* workspace, cudaStream_t stream,
                         int* allocations) {
    const auto all = descs_of(tensors, count);
    const PluginTensorDesc* first_output = all.data() + (count - outputs_of(plugin));
    IPluginV3OneRuntime* runtime = runtime_of(plugin);
    if (counting_begin == nullptr) return -1000;
    counting_begin();
    const int status =
        runtime->enqueue(all.data(), first_output, inputs, outputs, workspace, stream);
    *allocations = counting_end();
    return status;
}
}
