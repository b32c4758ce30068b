// SPDX-License-Identifier: Apache-2.0
// What our plugins share. An operation is a class Op with
//
//   kName, kInputs (at most), kFields (names and types, at most kMostFields), Options (plain data),
//   read(Fields, Options*), describe(Options, PluginField*) -> count of fields,
//   shape(Options, inputs, count, output, builder), supports(place, tensors, inputs),
//   check(Options, inputs, count, output), workspace(Options, input),
//   run(Options, inputs, addresses, count, output address, workspace, stream) -> status.
//
// `Plugin<Op>` and `Creator<Op>` make the three interfaces of TensorRT out of it. No function of
// theirs throws: what std::string may throw is turned into a failure.
#pragma once

#include "plugin/fields.h"
#include "plugin/report.h"

#include <exception>
#include <iterator>
#include <new>

namespace foveate {

constexpr int kMostFields = 4;
constexpr int kFailed = -1;

template <typename Op>
class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
  public:
    using Desc = nvinfer1::PluginTensorDesc;
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
    int32_t getNbOutputs() const noexcept override { return 1; }

    int32_t getOutputDataTypes(nvinfer1::DataType* types, int32_t outputs,
                               const nvinfer1::DataType* input_types,
                               int32_t inputs) const noexcept override {
        if (inputs < 1 || outputs != 1) return kFailed;
        types[0] = input_types[0];
        return 0;
    }

    int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count,
                            const nvinfer1::DimsExprs*, int32_t, nvinfer1::DimsExprs* outputs,
                            int32_t output_count,
                            nvinfer1::IExprBuilder& builder) noexcept override {
        if (output_count != 1) return kFailed;
        return guarded([&] {
            return Op::shape(options_, inputs, input_count, outputs, builder) ? 0 : kFailed;
        });
    }

    bool supportsFormatCombination(int32_t place, const DynamicDesc* tensors, int32_t inputs,
                                   int32_t outputs) noexcept override {
        return inputs >= 1 && inputs <= kMostInputs && outputs == 1 && place <= inputs &&
               Op::supports(place, tensors, inputs);
    }

    int32_t configurePlugin(const DynamicDesc* inputs, int32_t input_count,
                            const DynamicDesc* outputs,
                            int32_t output_count) noexcept override {
        // Sizes are known at their largest; what is too large then is refused here, not later.
        return guarded([&] {
            Desc largest[kMostInputs];
            if (input_count > kMostInputs || output_count != 1) return kFailed;
            for (int i = 0; i < input_count; ++i) {
                largest[i] = inputs[i].desc;
                largest[i].dims = inputs[i].max;
            }
            Desc output = outputs[0].desc;
            output.dims = outputs[0].max;
            return Op::check(options_, largest, input_count, output) ? 0 : kFailed;
        });
    }

    size_t getWorkspaceSize(const DynamicDesc* inputs, int32_t, const DynamicDesc*,
                            int32_t) const noexcept override {
        Desc largest = inputs[0].desc;
        largest.dims = inputs[0].max;
        return Op::workspace(options_, largest);
    }

    // IPluginV3OneRuntime
    int32_t onShapeChange(const Desc* inputs, int32_t input_count, const Desc* outputs,
                          int32_t output_count) noexcept override {
        if (output_count != 1) return kFailed;
        input_count_ = input_count;
        return guarded([&] {
            return Op::check(options_, inputs, input_count, outputs[0]) ? 0 : kFailed;
        });
    }

    int32_t enqueue(const Desc* descs, const Desc*, const void* const* inputs,
                    void* const* outputs, void* workspace, cudaStream_t stream) noexcept override {
        return report_status(Op::kName, Op::run(options_, descs, inputs, input_count_, outputs[0],
                                                workspace, stream));
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
    static constexpr int kMostInputs = Op::kInputs;

    template <typename Body>
    static int32_t guarded(Body body) noexcept {
        try {
            return body();
        } catch (const std::exception&) {
            return kFailed;
        }
    }

    typename Op::Options options_;
    int input_count_ = 0;
    nvinfer1::PluginField fields_[kMostFields];  // they point into options_
    nvinfer1::PluginFieldCollection collection_;
};

template <typename Op>
class Creator final : public nvinfer1::IPluginCreatorV3One {
  public:
    nvinfer1::IPluginV3* createPlugin(const char*, const nvinfer1::PluginFieldCollection* given,
                                      nvinfer1::TensorRTPhase) noexcept override {
        try {
            typename Op::Options options;
            if (!Op::read(Fields(Op::kName, given), &options)) return nullptr;
            return new Plugin<Op>(options);
        } catch (const std::exception&) {
            return nullptr;
        }
    }

    const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &names_; }
    const char* getPluginName() const noexcept override { return Op::kName; }
    const char* getPluginVersion() const noexcept override { return kVersion; }
    const char* getPluginNamespace() const noexcept override { return kNamespace; }

  private:
    nvinfer1::PluginFieldCollection names_{static_cast<int32_t>(std::size(Op::kFields)),
                                           Op::kFields};
};

// Each in the plugin.cpp of its operation.
nvinfer1::IPluginCreatorInterface* roi_max_pool_creator();
nvinfer1::IPluginCreatorInterface* bilinear_upsample_creator();

}  // namespace foveate
