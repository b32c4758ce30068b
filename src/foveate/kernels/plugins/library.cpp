// SPDX-License-Identifier: Apache-2.0
// The two entry points that `IPluginRegistry::loadLibrary` and `trtexec --dynamicPlugins` look up
// in a plugin library, and the error messages.
#include "plugins/plugin.h"

#include "plugins/launch.cuh"

#include <atomic>
#include <cstdio>

#define FOVEATE_EXPORT extern "C" __attribute__((visibility("default")))

namespace foveate {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

void log_error(const std::string& text) {
    nvinfer1::ILoggerFinder* finder = logger_finder.load();
    nvinfer1::ILogger* logger = finder == nullptr ? nullptr : finder->findLogger();
    if (logger != nullptr) {
        logger->log(nvinfer1::ILogger::Severity::kERROR, text.c_str());
    } else {
        std::fprintf(stderr, "%s\n", text.c_str());
    }
}

const char* name_of(nvinfer1::DataType type) {
    switch (type) {
        case nvinfer1::DataType::kFLOAT:
            return "float32";
        case nvinfer1::DataType::kHALF:
            return "float16";
        case nvinfer1::DataType::kINT32:
            return "int32";
        case nvinfer1::DataType::kINT64:
            return "int64";
        default:
            return "another type";
    }
}

const char* meaning(int status) {
    switch (status) {
        case kNullPointer:
            return "a null array that would be read or written";
        case kBadShape:
            return "shapes that do not fit each other";
        case kBadOption:
            return "an invalid option";
        case kTooLarge:
            return "more than one launch or 32-bit indices can cover";
        case kMisaligned:
            return "an address that is not a multiple of its element's size";
        default:
            return "an error of CUDA";
    }
}

}  // namespace

void report(const char* op, const std::string& expected, const std::string& found) noexcept {
    try {
        log_error("foveate::" + std::string(op) + ": expected " + expected + ", found " + found);
    } catch (const std::exception&) {
        std::fputs("foveate: out of memory while writing an error message\n", stderr);
    }
}

int report_status(const char* op, int status) noexcept {
    if (status == kOk) return status;
    try {
        report(op, "a launch", std::string(meaning(status)) + " (" + std::to_string(status) + ")");
    } catch (const std::exception&) {
        std::fputs("foveate: out of memory while writing an error message\n", stderr);
    }
    return status;
}

std::string to_text(const nvinfer1::PluginTensorDesc& tensor) {
    std::string shape;
    for (int i = 0; i < tensor.dims.nbDims; ++i) {
        shape += (i == 0 ? "" : ", ") + std::to_string(tensor.dims.d[i]);
    }
    return std::string(name_of(tensor.type)) + " (" + shape + ") in format " +
           std::to_string(static_cast<int>(tensor.format));
}

std::string ranks_text(const nvinfer1::DimsExprs* inputs, int count) {
    std::string text = std::to_string(count) + " input(s) of rank";
    for (int i = 0; i < count; ++i) text += " " + std::to_string(inputs[i].nbDims);
    return text;
}

bool are_small(const char* op, const nvinfer1::PluginTensorDesc& tensor) {
    for (int i = 0; i < tensor.dims.nbDims; ++i) {
        if (tensor.dims.d[i] >= 1 << 25) {
            report(op, "lengths below 33554432", to_text(tensor));
            return false;
        }
    }
    return true;
}

}  // namespace foveate

FOVEATE_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
    foveate::logger_finder.store(finder);
}

FOVEATE_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
    static nvinfer1::IPluginCreatorInterface* const creators[] = {
        foveate::roi_max_pool_creator(), foveate::bilinear_upsample_creator()};
    count = static_cast<int32_t>(std::size(creators));
    return creators;
}
