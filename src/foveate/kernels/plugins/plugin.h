// SPDX-License-Identifier: Apache-2.0
// TensorRT's interfaces of a plugin and of its creator, implemented once for all plugins.
//
// `Plugin<Op>` takes its behavior from a class Op with static members:
//
//   kName, kInputs (the largest number of inputs), kOutputs, Options (a struct of plain data)
//   read(Fields, Options*) -> bool
//   describe(Options, PluginField*) -> number of fields written, at most kMaxFields
//   types(input types, output types)
//   shape(Options, Shapes, outputs, builder) -> bool
//   supports(position, tensors, input count) -> bool
//   check(Options, inputs, count, outputs) -> bool
//   workspace(Options, inputs, outputs) -> bytes
//   run(Options, Call) -> status of a launcher
//
// Shape inputs are not counted as inputs: their values are in Shapes. `Creator<Family>` takes
// kName, kFields (names and types) and create(Fields) from a class Family.
//
// TensorRT requires that no function throws. Exceptions of std::string become failures.
#pragma once

#include "plugins/fields.h"
#include "plugins/report.h"

#include <exception>
#include <iterator>
#include <new>

namespace foveate {

using nvinfer1::DataType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;

constexpr int kMaxFields = 4;
constexpr int kFailed = -1;

// The inputs while an engine is built: expressions of their lengths, and of the values of shape
// inputs.
struct Shapes {
    const nvinfer1::DimsExprs* inputs;
    int count;
    const nvinfer1::DimsExprs* values;
    int value_count;
};

// Arguments of one execution. The arrays belong to TensorRT; `stream` orders the work.
struct Call {
    const PluginTensorDesc* inputs;
    int count;
    const PluginTensorDesc* outputs;
    const void* const* sources;
    void* const* targets;
    void* workspace;
    cudaStream_t stream;
};

template <typename Op>
class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
  public:
    using Desc = PluginTensorDesc;
    using DynamicDesc = nvinfer1::DynamicPluginTensorDesc;

    explicit Plugin(const typename Op::Options& options) : options_(options) {}

    // IPluginV3
    nvinfer1::IPluginCapability* getCapabilityInterface(
        nvinfer1::PluginCapabilityType type) noexcept override {
        switch (type) {
            case nvinfer1::PluginCapabilityType::kCORE:
                return static_cast<nvinfer1::IPluginV3OneCore*>(this);
            case nvinfer1::PluginCapabilityType::kBUILD:
                return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
            case nvinfer1::PluginCapabilityType::kRUNTIME:
                return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
        }
        return nullptr;
    }

    nvinfer1::IPluginV3* clone() noexcept override { return new (std::nothrow) Plugin(options_); }

    // IPluginV3OneCore
    const char* getPluginName() const noexcept override { return Op::kName; }
    const char* getPluginVersion() const noexcept override { return kVersion; }
    const char* getPluginNamespace() const noexcept override { return kNamespace; }

    // IPluginV3OneBuild
    int32_t getNbOutputs() const noexcept override { return Op::kOutputs; }

    int32_t getOutputDataTypes(nvinfer1::DataType* types, int32_t outputs,
                               const nvinfer1::DataType* input_types,
                               int32_t inputs) const noexcept override {
        if (inputs < 1 || outputs != Op::kOutputs) return kFailed;
        Op::types(input_types, types);
        return 0;
    }

    int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count,
                            const nvinfer1::DimsExprs* values, int32_t value_count,
                            nvinfer1::DimsExprs* outputs, int32_t output_count,
                            nvinfer1::IExprBuilder& builder) noexcept override {
        if (output_count != Op::kOutputs) return kFailed;
        return guarded([&] {
            const Shapes shapes{inputs, input_count, values, value_count};
            return Op::shape(options_, shapes, outputs, builder) ? 0 : kFailed;
        });
    }

    bool supportsFormatCombination(int32_t position, const DynamicDesc* tensors, int32_t inputs,
                                   int32_t outputs) noexcept override {
        return inputs >= 1 && inputs <= Op::kInputs && outputs == Op::kOutputs &&
               position < inputs + outputs && Op::supports(position, tensors, inputs);
    }

    int32_t configurePlugin(const DynamicDesc* inputs, int32_t input_count,
                            const DynamicDesc* outputs, int32_t output_count) noexcept override {
        // The largest sizes of the profile are checked here, so that the build fails and not a run.
        return guarded([&] {
            if (input_count > Op::kInputs || output_count != Op::kOutputs) return kFailed;
            Desc largest_inputs[Op::kInputs], largest_outputs[Op::kOutputs];
            largest(inputs, input_count, largest_inputs);
            largest(outputs, output_count, largest_outputs);
            return Op::check(options_, largest_inputs, input_count, largest_outputs) ? 0 : kFailed;
        });
    }

    size_t getWorkspaceSize(const DynamicDesc* inputs, int32_t input_count,
                            const DynamicDesc* outputs,
                            int32_t output_count) const noexcept override {
        Desc largest_inputs[Op::kInputs], largest_outputs[Op::kOutputs];
        largest(inputs, input_count, largest_inputs);
        largest(outputs, output_count, largest_outputs);
        return Op::workspace(options_, largest_inputs, largest_outputs);
    }

    // IPluginV3OneRuntime
    int32_t onShapeChange(const Desc* inputs, int32_t input_count, const Desc* outputs,
                          int32_t output_count) noexcept override {
        if (output_count != Op::kOutputs) return kFailed;
        input_count_ = input_count;
        return guarded(
            [&] { return Op::check(options_, inputs, input_count, outputs) ? 0 : kFailed; });
    }

    int32_t enqueue(const Desc* inputs, const Desc* outputs, const void* const* sources,
                    void* const* targets, void* workspace, cudaStream_t stream) noexcept override {
        const Call call{inputs, input_count_, outputs, sources, targets, workspace, stream};
        return report_status(Op::kName, Op::run(options_, call));
    }

    nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override {
        return clone();
    }

    const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override {
        collection_.nbFields = Op::describe(options_, fields_);
        collection_.fields = fields_;
        return &collection_;
    }

  private:
    template <typename Body>
    static int32_t guarded(Body body) noexcept {
        try {
            return body();
        } catch (const std::exception&) {
            return kFailed;
        }
    }

    static void largest(const DynamicDesc* tensors, int count, Desc* found) {
        for (int i = 0; i < count; ++i) {
            found[i] = tensors[i].desc;
            found[i].dims = tensors[i].max;
        }
    }

    typename Op::Options options_;
    int input_count_ = 0;
    PluginField fields_[kMaxFields];  // their data are members of options_
    nvinfer1::PluginFieldCollection collection_;
};

// Return the plugin with these fields, or null if they are invalid.
template <typename Op>
nvinfer1::IPluginV3* make_plugin(const Fields& fields) {
    typename Op::Options options;
    return Op::read(fields, &options) ? new Plugin<Op>(options) : nullptr;
}

template <typename Family>
class Creator final : public nvinfer1::IPluginCreatorV3One {
  public:
    nvinfer1::IPluginV3* createPlugin(const char*, const nvinfer1::PluginFieldCollection* given,
                                      nvinfer1::TensorRTPhase) noexcept override {
        try {
            return Family::create(Fields(Family::kName, given));
        } catch (const std::exception&) {
            return nullptr;
        }
    }

    const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &names_; }
    const char* getPluginName() const noexcept override { return Family::kName; }
    const char* getPluginVersion() const noexcept override { return kVersion; }
    const char* getPluginNamespace() const noexcept override { return kNamespace; }

  private:
    nvinfer1::PluginFieldCollection names_{static_cast<int32_t>(std::size(Family::kFields)),
                                           Family::kFields};
};

// Defined in the plugin.cpp of each operator.
nvinfer1::IPluginCreatorInterface* roi_max_pool_creator();
nvinfer1::IPluginCreatorInterface* bilinear_upsample_creator();

}  // namespace foveate
