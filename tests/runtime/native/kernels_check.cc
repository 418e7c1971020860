// The kernels without a runtime, for the sanitizers: every type, layout and form on buffers of exactly their size,
// against element-by-element sums of neuron.h. On the CPU the tasks of a tensor run on threads, as on a session's pool.
//
//   scripts/sanitize        builds and runs it under AddressSanitizer, UBSan and ThreadSanitizer; with ON_DEVICE for the
//                           CUDA kernels, which plain/cuda_runtime.h makes ordinary C++
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <thread>
#include <type_traits>
#include <vector>

#include "../../../graphpass/runtime/native/kernels.h"
#include "../../../graphpass/runtime/native/neuron.h"

using namespace graphpass;

namespace {

int failures = 0;

void expect(bool right, const char* what, std::int64_t element) {
  if (right) return;
  if (++failures <= 10) std::fprintf(stderr, "%s differs at element %lld\n", what, static_cast<long long>(element));
}

template <typename T>
bool same(T one, T other) {
  return std::memcmp(&one, &other, sizeof(T)) == 0 || (widen(one) != widen(one) && widen(other) != widen(other));
}

#ifndef ON_DEVICE
// body(begin, end) over [0, size) in odd pieces on three threads.
template <typename Body>
void on_threads(std::int64_t size, Body body) {
  std::vector<std::thread> threads;
  const std::int64_t piece = size / 3 + 1;
  for (std::int64_t begin = 0; begin < size; begin += piece)
    threads.emplace_back([=] { body(begin, std::min(begin + piece, size)); });
  for (auto& thread : threads) thread.join();
}
#endif

template <typename T>
void check(Type type, Layout layout, bool per_channel, Steps steps, std::mt19937& random) {
  std::normal_distribution<float> normal(0.3f, 1.5f);
  const std::int64_t size = layout.size(), channels = per_channel ? layout.channels : 1;
  std::vector<float> threshold(channels), shift(channels), amplitude(channels), offset(channels);
  for (std::int64_t c = 0; c < channels; ++c) {
    threshold[c] = 0.05f + std::abs(normal(random));
    shift[c] = normal(random), amplitude[c] = normal(random), offset[c] = normal(random);
  }
  const std::int64_t stride = per_channel ? 1 : 0;
  Neurons neurons{{threshold.data(), stride}, {shift.data(), stride}, {amplitude.data(), stride},
                  {offset.data(), stride}, steps.phase ? static_cast<float>((1 << steps.output) - 1) : steps.output,
                  {}};
  std::vector<T> x(size * steps.input);
  for (auto& value : x) value = narrow<T>(normal(random));
  const float special[] = {std::nanf(""), std::numeric_limits<float>::infinity(),
                           -std::numeric_limits<float>::infinity(), -0.0f, 1e30f};
  for (std::size_t k = 0; k < std::min<std::size_t>(5, x.size()); ++k) x[k] = narrow<T>(special[k]);

  std::vector<T> levels(size), mean(size), spikes(size * steps.output);
  std::vector<std::uint8_t> counts(size);
#ifdef ON_DEVICE
  std::vector<T> repeated(size * steps.output), first(x.begin(), x.begin() + size);
  int failed = cuda::neuron(type, Output::levels, x.data(), levels.data(), layout, neurons, nullptr);
  failed += cuda::neuron(type, Output::counts, x.data(), counts.data(), layout, neurons, nullptr);
  failed += cuda::train(type, x.data(), spikes.data(), layout, neurons, steps, nullptr);
  failed += cuda::mean(type, x.data(), mean.data(), size, steps, nullptr);
  failed += cuda::repeat(first.data(), repeated.data(), size * sizeof(T), steps.output, nullptr);
  expect(failed == 0, "status", failed);
  for (std::int64_t k = 0; k < size * steps.output; ++k) expect(same(repeated[k], first[k % size]), "repeated", k);
#else
  on_threads(size, [&](std::int64_t begin, std::int64_t end) {
    cpu::neuron(type, Output::levels, x.data(), levels.data(), layout, neurons, begin, end);
    cpu::neuron(type, Output::counts, x.data(), counts.data(), layout, neurons, begin, end);
    cpu::train(type, x.data(), spikes.data(), layout, neurons, steps, begin, end);
    cpu::mean(type, x.data(), mean.data(), size, steps, begin, end);
  });
#endif
  for (std::int64_t k = 0; k < size; ++k) {
    const std::int64_t c = per_channel ? k / layout.inner % layout.channels : 0;
    const float value = widen(x[k]), largest = neurons.largest;
    expect(same(levels[k], Levels::of<T>(value, threshold[c], shift[c], amplitude[c], offset[c], largest)), "level", k);
    expect(counts[k] == count(value, threshold[c], shift[c], largest), "count", k);
    const float current = time_mean(x.data() + k, size, steps.input, steps.phase);
    expect(same(mean[k], narrow<T>(current)), "mean", k);
    const std::int32_t fired = count(current, threshold[c], shift[c], largest);
    for (int plane = 0; plane < steps.output; ++plane)
      expect(widen(spikes[plane * size + k]) == (fires(fired, plane, steps.output, steps.phase) ? 1.0f : 0.0f), "spike", k);
  }
}

// Thresholds of every step, against a count of those that fire.
template <typename T>
void check_thresholds(Type type, Layout layout, bool per_channel, Steps steps, std::mt19937& random) {
  std::normal_distribution<float> normal(0.3f, 1.5f);
  const std::int64_t size = layout.size(), channels = per_channel ? layout.channels : 1, count = steps.output;
  std::vector<float> rising(count * channels), falling(count * channels), amplitude(channels), offset(channels);
  for (std::int64_t c = 0; c < channels; ++c) {
    float b = normal(random), low = b;
    for (std::int64_t k = 0; k < count; ++k) {
      rising[k * channels + c] = b += std::abs(normal(random)) / count;
      falling[k * channels + c] = low -= std::abs(normal(random));
    }
    amplitude[c] = normal(random), offset[c] = normal(random);
  }
  const std::int64_t stride = per_channel ? 1 : 0;
  const Neurons neurons{{}, {}, {amplitude.data(), stride}, {offset.data(), stride}, static_cast<float>(count),
                        {rising.data(), falling.data(), count, channels, stride}};
  std::vector<T> x(size), levels(size), spikes(size * count);
  for (auto& value : x) value = narrow<T>(normal(random));
  if (size) x[0] = narrow<T>(std::nanf(""));
#ifdef ON_DEVICE
  expect(!cuda::neuron(type, Output::levels, x.data(), levels.data(), layout, neurons, nullptr), "status", 0);
  expect(!cuda::train(type, x.data(), spikes.data(), layout, neurons, steps, nullptr), "status", 1);
#else
  on_threads(size, [&](std::int64_t begin, std::int64_t end) {
    cpu::neuron(type, Output::levels, x.data(), levels.data(), layout, neurons, begin, end);
    cpu::train(type, x.data(), spikes.data(), layout, neurons, steps, begin, end);
  });
#endif
  for (std::int64_t k = 0; k < size; ++k) {
    const std::int64_t c = per_channel ? k / layout.inner % layout.channels : 0;
    const float value = widen(x[k]);
    int fired = 0;
    for (std::int64_t step = 0; step < count; ++step)
      fired += value >= rising[step * channels + c] || value < falling[step * channels + c];
    const float n = value == value ? static_cast<float>(fired) : value;
    expect(same(levels[k], narrow<T>(amplitude[c] * n + offset[c])), "level by thresholds", k);
    for (int plane = 0; plane < steps.output; ++plane)
      expect(widen(spikes[plane * size + k]) == (fires(fired, plane, steps.output, false) ? 1.0f : 0.0f),
             "spike by thresholds", k);
  }
}

// The quotient without a division, about the borders between counts; thresholds of ordinary digits and of the most awkward.
void check_quotients(std::mt19937& random) {
  const std::uint32_t awkward[] = {0, 1, 2, 0x400000u, 0x3fffffu, 0x7fffffu, 0x7ffffeu, 0x555555u};
  for (int draw = 0; draw < 200'000; ++draw) {
    const std::uint32_t digits = draw % 2 ? awkward[draw / 2 % 8] : random() & 0x7fffffu;
    const auto exponent = static_cast<std::uint32_t>(28 + random() % 198);
    const float threshold = same_bits<float>(exponent << 23 | digits), inverse = 1.0f / threshold;
    expect(is_ordinary(threshold), "ordinary", draw);
    const float border = static_cast<float>(1 + random() % 255) * threshold;
    const float a = same_bits<float>(same_bits<std::uint32_t>(border) + static_cast<std::uint32_t>(random() % 9) - 4);
    expect(floor_of_quotient(a, threshold, inverse) == std::floor(a / threshold), "quotient", draw);
  }
  expect(!is_ordinary(0x1p-101f) && !is_ordinary(0x1p101f) && !is_ordinary(std::nanf("")), "ordinary", -1);
}

#ifndef ON_DEVICE
// Blocks of channels, in place and not, with and without a sum; against a loop over the same order in memory.
void check_blocked(std::int64_t block, Layout layout, bool per_channel, std::mt19937& random) {
  std::normal_distribution<float> normal(0.3f, 1.5f);
  const std::int64_t size = layout.size(), channels = per_channel ? layout.channels : 1;
  std::vector<float> parts[4], x(size), added(size), levels(size), sums(size);
  for (auto& part : parts)
    for (std::int64_t c = 0; c < channels; ++c) part.push_back(0.05f + std::abs(normal(random)));
  for (auto& value : x) value = normal(random);
  for (auto& value : added) value = normal(random);
  const std::int64_t stride = per_channel ? 1 : 0;
  const Neurons neurons{{parts[0].data(), stride}, {parts[1].data(), stride}, {parts[2].data(), stride},
                        {parts[3].data(), stride}, 4.0f, {}};
  std::vector<float> placed = x;
  for (std::int64_t begin = 0; begin < size; begin += 3 * block) {
    const std::int64_t end = std::min(begin + 3 * block, size);
    cpu::blocked(x.data(), nullptr, levels.data(), layout, block, neurons, begin, end);
    cpu::blocked(placed.data(), added.data(), placed.data(), layout, block, neurons, begin, end);
  }
  cpu::blocked(x.data(), added.data(), sums.data(), layout, block, neurons, 0, size);
  for (std::int64_t k = 0; k < size; ++k) {
    const std::int64_t c = per_channel ? k / (layout.inner * block) * block % layout.channels + k % block : 0;
    const auto of = [&](float value) {
      return Levels::of<float>(value, parts[0][c], parts[1][c], parts[2][c], parts[3][c], 4.0f);
    };
    expect(same(levels[k], of(x[k])), "level in a block", k);
    expect(same(sums[k], of(x[k] + added[k])) && same(placed[k], sums[k]), "level of a sum in a block", k);
  }
}

// One table, or one a channel, in place and not.
void check_look_up(Layout layout, bool per_channel, std::mt19937& random) {
  const Layout seen = per_channel ? layout : Layout{1, 1, layout.size()};
  std::uniform_int_distribution<int> any(0, 255);
  std::vector<std::uint8_t> codes(seen.size()), table(seen.channels * 256), y(seen.size());
  for (auto& value : codes) value = static_cast<std::uint8_t>(any(random));
  for (auto& value : table) value = static_cast<std::uint8_t>(any(random));
  std::vector<std::uint8_t> placed = codes;
  on_threads(seen.size(), [&](std::int64_t begin, std::int64_t end) {
    cpu::look_up(codes.data(), table.data(), y.data(), seen, begin, end);
    cpu::look_up(placed.data(), table.data(), placed.data(), seen, begin, end);
  });
  for (std::int64_t k = 0; k < seen.size(); ++k) {
    const std::int64_t c = k / seen.inner % seen.channels;
    expect(y[k] == table[c * 256 + codes[k]] && placed[k] == y[k], "look-up", k);
  }
}

#endif

}  // namespace

int main() {
  std::mt19937 random(0);
  const Layout layouts[] = {{1, 1, 0}, {0, 3, 5}, {2, 3, 0}, {2, 0, 4}, {1, 1, 1}, {1, 1, 2000}, {2, 3, 700}, {3, 130, 1}, {9, 33, 1}, {5, 7, 13}, {1, 1, 513},
                            {2, 3, 64}, {2, 8, 49}, {9, 32, 1}, {3, 16, 2}, {7, 3, 64}, {5, 8, 49}};
  const Steps all_steps[] = {{1, 1, false}, {1, 4, false}, {4, 4, false}, {1, 5, true}, {3, 3, true}, {1, 20, false}, {1, 255, false}};
  for (const Layout& layout : layouts)
    for (const Steps& steps : all_steps)
      for (const bool per_channel : {false, true}) {
        if (!per_channel && layout.channels > 1 && layout.inner == 1) continue;  // the caller spreads such a value
        check<float>(Type::f32, layout, per_channel, steps, random);
        check<Half>(Type::f16, layout, per_channel, steps, random);
        check<BFloat>(Type::bf16, layout, per_channel, steps, random);
        if (steps.phase || steps.input > 1) continue;
        check_thresholds<float>(Type::f32, layout, per_channel, steps, random);
        check_thresholds<Half>(Type::f16, layout, per_channel, steps, random);
        check_thresholds<BFloat>(Type::bf16, layout, per_channel, steps, random);
      }
  check_quotients(random);
#ifndef ON_DEVICE
  for (const Layout& layout : layouts)
    for (const bool per_channel : {false, true}) check_look_up(layout, per_channel, random);
  for (const std::int64_t block : {8, 16})
    for (const bool per_channel : {false, true})
      for (const Layout& layout : {Layout{2, 48, 35}, Layout{1, 16, 1}, Layout{0, 16, 3}, Layout{2, 32, 0}})
        check_blocked(block, layout, per_channel, random);
#endif
  if (failures) std::fprintf(stderr, "%d values differ\n", failures);
  return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
