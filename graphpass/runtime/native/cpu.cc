// CPU kernels: loops over neuron.h that the compiler vectorises, cloned for AVX-512, AVX2 and the base instruction set.
#include "kernels.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "neuron.h"

#if defined(__x86_64__) && !defined(GRAPHPASS_PLAIN)
#define GRAPHPASS_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define GRAPHPASS_CLONES
#endif

namespace graphpass::cpu {
namespace {

constexpr std::int64_t kBlock = 512;  // counts held while the planes of a train are written
constexpr int kRows = 4;              // of channels that lie side by side, done together ...
constexpr std::int64_t kCached = 1 << 20;  // ... in tensors of so many elements; from memory, one stream is faster

// One channel's neurons over a run of elements.
template <typename Kind, typename In, typename Out>
GRAPHPASS_BOTH void run(const In* __restrict x, Out* __restrict y, std::int64_t size, float threshold, float shift,
                        float amplitude, float offset, float largest) {
  for (std::int64_t k = 0; k < size; ++k)
    y[k] = Kind::template of<Out>(widen(x[k]), threshold, shift, amplitude, offset, largest);
}

// Neurons whose channel changes with every element, over rows of all channels: each parameter, one a channel, is loaded
// once for all rows.
template <typename Kind, int rows, typename In, typename Out>
GRAPHPASS_BOTH void across(const In* __restrict x, Out* __restrict y, std::int64_t size, const Neurons& n,
                           const Parameter& amplitudes, const Parameter& offsets, std::int64_t first) {
  const float* __restrict threshold = n.threshold.values + first;
  const float* __restrict shift = n.shift.values + first;
  const float* __restrict amplitude = amplitudes.values + first;
  const float* __restrict offset = offsets.values + first;
  const float largest = n.largest;
  for (std::int64_t k = 0; k < size; ++k)
    for (int row = 0; row < rows; ++row)
      y[row * size + k] =
          Kind::template of<Out>(widen(x[row * size + k]), threshold[k], shift[k], amplitude[k], offset[k], largest);
}

// x and y: from element `begin` on.
template <typename Kind, typename In, typename Out>
GRAPHPASS_BOTH void elements(const In* x, Out* y, const Layout& layout, const Neurons& n, std::int64_t begin,
                             std::int64_t end) {
  const Parameter& amplitude = n.amplitude.values ? n.amplitude : n.threshold;  // counts have none and read none
  const Parameter& offset = n.offset.values ? n.offset : n.threshold;
  if (begin >= end) return;  // an axis may be of size 0
  const bool last = layout.inner == 1 && layout.channels > 1;  // channels lie side by side
  const bool cached = layout.size() <= kCached;
  const std::int64_t row = last ? layout.channels : layout.channels == 1 ? end : layout.inner;
  std::int64_t channel = last ? 0 : begin / layout.inner % layout.channels;
  std::int64_t within = layout.channels == 1 ? begin : begin % row;  // the row
  while (begin < end) {
    std::int64_t size = std::min(end - begin, row - within);
    if (last && cached && within == 0 && end - begin >= kRows * row) {
      across<Kind, kRows>(x, y, row, n, amplitude, offset, 0);
      size = kRows * row;
    } else if (last) {
      across<Kind, 1>(x, y, size, n, amplitude, offset, within);
    } else {
      run<Kind>(x, y, size, n.threshold.values[channel * n.threshold.stride],
                n.shift.values[channel * n.shift.stride], amplitude.values[channel * amplitude.stride],
                offset.values[channel * offset.stride], n.largest);
      if (++channel == layout.channels) channel = 0;
    }
    x += size, y += size, begin += size, within = 0;
  }
}

// run(start, size, channel): stretches of one channel, or (inner = 1) of channels in a row from `channel` on.
template <typename Run>
GRAPHPASS_BOTH void stretches(const Layout& layout, std::int64_t begin, std::int64_t end, Run run) {
  const bool last = layout.inner == 1 && layout.channels > 1;
  const std::int64_t row = last ? layout.channels : layout.channels == 1 ? end : layout.inner;
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t within = layout.channels == 1 ? at : at % row, size = std::min(end - at, row - within);
    run(at - begin, size, last ? within : at / layout.inner % layout.channels);
    at += size;
  }
}

// The counts of elements [begin, end) by the thresholds of every step. x, counts: from `begin` on.
GRAPHPASS_BOTH void by_thresholds(const float* __restrict x, std::int32_t* __restrict counts, const Layout& layout,
                                  const Thresholds& each, std::int64_t begin, std::int64_t end) {
  const bool last = layout.inner == 1 && layout.channels > 1 && each.stride;
  for (std::int64_t k = 0; k < end - begin; ++k) counts[k] = 0;
  stretches(layout, begin, end, [&](std::int64_t start, std::int64_t size, std::int64_t channel) {
    for (std::int64_t step = 0; step < each.steps; ++step) {
      const float* __restrict b = each.rising + step * each.pitch + channel * each.stride;
      const float* __restrict c = each.falling + step * each.pitch + channel * each.stride;
      if (last) {
        for (std::int64_t k = 0; k < size; ++k) counts[start + k] += outside(x[start + k], b[k], c[k]);
      } else {
        const float rising = *b, falling = *c;
        for (std::int64_t k = 0; k < size; ++k) counts[start + k] += outside(x[start + k], rising, falling);
      }
    }
  });
}

// What neurons with thresholds of every step give out. x, y: from element `begin` on.
template <typename T>
GRAPHPASS_BOTH void levels_by_thresholds(const T* x, T* y, const Layout& layout, const Neurons& n, std::int64_t begin,
                                         std::int64_t end) {
  float current[kBlock];
  std::int32_t counts[kBlock];
  const std::int64_t first = begin;
  for (; begin < end; begin += kBlock) {
    const std::int64_t now = std::min(kBlock, end - begin);
    const T* from = x + (begin - first);
    T* to = y + (begin - first);
    for (std::int64_t k = 0; k < now; ++k) current[k] = widen(from[k]);
    by_thresholds(current, counts, layout, n.each, begin, begin + now);
    const std::int64_t beside = layout.inner == 1 && layout.channels > 1;  // channels lie side by side
    stretches(layout, begin, begin + now, [&](std::int64_t start, std::int64_t size, std::int64_t channel) {
      for (std::int64_t k = 0; k < size; ++k) {
        const std::int64_t c = channel + beside * k;
        const float value = current[start + k];
        const float count = value == value ? static_cast<float>(counts[start + k]) : value;
        to[start + k] = narrow<T>(n.amplitude.values[c * n.amplitude.stride] * count +
                                  n.offset.values[c * n.offset.stride]);
      }
    });
  }
}

// The same block of channels over rows of one value a channel. Input(k) is x at element k.
template <int block, typename Input>
GRAPHPASS_BOTH void block_rows(Input input, float* y, std::int64_t rows, const Neurons& n, std::int64_t channel) {
  float threshold[block], shift[block], amplitude[block], offset[block];
  for (int k = 0; k < block; ++k) {
    threshold[k] = n.threshold.values[(channel + k) * n.threshold.stride];
    shift[k] = n.shift.values[(channel + k) * n.shift.stride];
    amplitude[k] = n.amplitude.values[(channel + k) * n.amplitude.stride];
    offset[k] = n.offset.values[(channel + k) * n.offset.stride];
  }
  const float largest = n.largest;
  for (std::int64_t row = 0; row < rows * block; row += block) {
#pragma GCC ivdep
    for (int k = 0; k < block; ++k)
      y[row + k] = Levels::of<float>(input(row + k), threshold[k], shift[k], amplitude[k], offset[k], largest);
  }
}

template <int block>
GRAPHPASS_BOTH void blocks(const float* x, const float* added, float* y, const Layout& layout, const Neurons& n,
                           std::int64_t begin, std::int64_t end) {
  if (begin >= end) return;
  const std::int64_t size = layout.inner * block;
  std::int64_t channel = begin / size * block % layout.channels, within = begin % size;
  while (begin < end) {
    const std::int64_t now = std::min(end - begin, size - within);
    if (added) {
      const auto sum = [=](std::int64_t k) { return x[begin + k] + added[begin + k]; };
      block_rows<block>(sum, y + begin, now / block, n, channel);
    } else {
      block_rows<block>([=](std::int64_t k) { return x[begin + k]; }, y + begin, now / block, n, channel);
    }
    channel = (channel + block) % layout.channels;
    begin += now, within = 0;
  }
}

GRAPHPASS_CLONES void blocks_of_8(const float* x, const float* a, float* y, const Layout& l, const Neurons& n,
                                  std::int64_t b, std::int64_t e) {
  blocks<8>(x, a, y, l, n, b, e);
}
GRAPHPASS_CLONES void blocks_of_16(const float* x, const float* a, float* y, const Layout& l, const Neurons& n,
                                   std::int64_t b, std::int64_t e) {
  blocks<16>(x, a, y, l, n, b, e);
}

// x[k] = the mean over the steps at element k of [0, width); the same sums as time_mean's, plane by plane.
template <typename T>
GRAPHPASS_BOTH void block_mean(const T* currents, float* __restrict x, std::int64_t size, const Steps& steps,
                               std::int64_t width) {
  if (steps.input == 1) {
    for (std::int64_t k = 0; k < width; ++k) x[k] = widen(currents[k]);
    return;
  }
  for (std::int64_t k = 0; k < width; ++k) x[k] = 0.0f;
  for (int plane = 0; plane < steps.input; ++plane) {
    const T* __restrict from = currents + plane * size;
    const float share = weight(plane, steps.input, steps.phase);
    for (std::int64_t k = 0; k < width; ++k) x[k] += share * widen(from[k]);
  }
  const float total = total_weight(steps.input, steps.phase);
  for (std::int64_t k = 0; k < width; ++k) x[k] /= total;
}

template <typename T>
GRAPHPASS_BOTH void spikes(const T* currents, T* out, const Layout& layout, const Neurons& n, const Steps& steps,
                           std::int64_t begin, std::int64_t end) {
  const std::int64_t size = layout.size();
  float x[kBlock];
  std::int32_t counts[kBlock];
  for (; begin < end; begin += kBlock) {
    const std::int64_t width = std::min(kBlock, end - begin);
    block_mean(currents + begin, x, size, steps, width);
    if (n.each.rising)
      by_thresholds(x, counts, layout, n.each, begin, begin + width);
    else
      elements<Counts>(x, counts, layout, n, begin, begin + width);
    for (int plane = 0; plane < steps.output; ++plane) {
      T* __restrict to = out + plane * size + begin;
      if (steps.phase) {
        for (std::int64_t k = 0; k < width; ++k) to[k] = spike<T>(fires(counts[k], plane, steps.output, true));
      } else {
        for (std::int64_t k = 0; k < width; ++k) to[k] = spike<T>(fires(counts[k], plane, steps.output, false));
      }
    }
  }
}

template <typename T>
GRAPHPASS_BOTH void means(const T* currents, T* x, std::int64_t size, const Steps& steps, std::int64_t begin,
                          std::int64_t end) {
  float block[kBlock];
  for (; begin < end; begin += kBlock) {
    const std::int64_t width = std::min(kBlock, end - begin);
    block_mean(currents + begin, block, size, steps, width);
    for (std::int64_t k = 0; k < width; ++k) x[begin + k] = narrow<T>(block[k]);
  }
}

// A clone is a function, not a template: one of each kernel for each type.
#define GRAPHPASS_KERNELS(T)                                                                                           \
  GRAPHPASS_CLONES void levels_of(const T* x, T* y, const Layout& l, const Neurons& n, std::int64_t b,                 \
                                  std::int64_t e) {                                                                    \
    if (n.each.rising) return levels_by_thresholds(x + b, y + b, l, n, b, e);                                          \
    elements<Levels>(x + b, y + b, l, n, b, e);                                                                        \
  }                                                                                                                    \
  GRAPHPASS_CLONES void counts_of(const T* x, std::uint8_t* y, const Layout& l, const Neurons& n, std::int64_t b,      \
                                  std::int64_t e) {                                                                    \
    elements<Counts>(x + b, y + b, l, n, b, e);                                                                        \
  }                                                                                                                    \
  GRAPHPASS_CLONES void spikes_of(const T* x, T* y, const Layout& l, const Neurons& n, const Steps& s,                 \
                                  std::int64_t b, std::int64_t e) {                                                    \
    spikes(x, y, l, n, s, b, e);                                                                                       \
  }                                                                                                                    \
  GRAPHPASS_CLONES void means_of(const T* x, T* y, std::int64_t size, const Steps& s, std::int64_t b,                  \
                                 std::int64_t e) {                                                                     \
    means(x, y, size, s, b, e);                                                                                        \
  }
GRAPHPASS_KERNELS(float)
GRAPHPASS_KERNELS(Half)
GRAPHPASS_KERNELS(BFloat)
#undef GRAPHPASS_KERNELS

template <typename Call>
void with_type(Type type, Call call) {
  if (type == Type::f32) return call(static_cast<float*>(nullptr));
  if (type == Type::f16) return call(static_cast<Half*>(nullptr));
  return call(static_cast<BFloat*>(nullptr));
}

}  // namespace

void neuron(Type type, Output output, const void* x, void* y, const Layout& layout, const Neurons& neurons,
            std::int64_t begin, std::int64_t end) {
  with_type(type, [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    const auto* from = static_cast<const T*>(x);
    if (output == Output::counts) return counts_of(from, static_cast<std::uint8_t*>(y), layout, neurons, begin, end);
    levels_of(from, static_cast<T*>(y), layout, neurons, begin, end);
  });
}

void blocked(const float* x, const float* added, float* y, const Layout& layout, std::int64_t block,
             const Neurons& neurons, std::int64_t begin, std::int64_t end) {
  const auto kernel = block == 8 ? blocks_of_8 : blocks_of_16;
  kernel(x, added, y, layout, neurons, begin, end);
}

namespace {

// One value of each of `width` channels. Eight are read and written at once, in two thirds of the time of one by one.
void values_of_channels(const std::uint8_t* codes, const std::uint8_t* rows, std::uint8_t* y, std::int64_t width) {
  constexpr std::int64_t kAtOnce = 8;
  std::int64_t k = 0;
  for (; k + kAtOnce <= width; k += kAtOnce) {
    std::uint8_t read[kAtOnce], made[kAtOnce];
    std::memcpy(read, codes + k, kAtOnce);
    for (int lane = 0; lane < kAtOnce; ++lane) made[lane] = rows[(k + lane) * 256 + read[lane]];
    std::memcpy(y + k, made, kAtOnce);
  }
  for (; k < width; ++k) y[k] = rows[k * 256 + codes[k]];
}

}  // namespace

void look_up(const std::uint8_t* codes, const std::uint8_t* table, std::uint8_t* y, const Layout& layout,
             std::int64_t begin, std::int64_t end) {
  if (begin >= end) return;
  std::int64_t channel = begin / layout.inner % layout.channels;
  std::int64_t run = std::min(layout.inner - begin % layout.inner, end - begin);  // of one channel
  for (std::int64_t place = begin; place < end;) {
    if (layout.inner == 1) {
      const std::int64_t width = std::min(layout.channels - channel, end - place);
      values_of_channels(codes + place, table + channel * 256, y + place, width);
      place += width;
      channel = 0;
    } else {
      const std::uint8_t* row = table + channel * 256;
      for (std::int64_t k = 0; k < run; ++k) y[place + k] = row[codes[place + k]];
      place += run;
      channel = channel + 1 == layout.channels ? 0 : channel + 1;
      run = std::min(layout.inner, end - place);
    }
  }
}

void train(Type type, const void* currents, void* out, const Layout& layout, const Neurons& neurons,
           const Steps& steps, std::int64_t begin, std::int64_t end) {
  with_type(type, [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    spikes_of(static_cast<const T*>(currents), static_cast<T*>(out), layout, neurons, steps, begin, end);
  });
}

void mean(Type type, const void* currents, void* x, std::int64_t size, const Steps& steps, std::int64_t begin,
          std::int64_t end) {
  with_type(type, [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    means_of(static_cast<const T*>(currents), static_cast<T*>(x), size, steps, begin, end);
  });
}

}  // namespace graphpass::cpu
