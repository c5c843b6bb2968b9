"use strict";
// Numbers as text, ticks, and the colours of the load pictures.

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const withMinus = (text) => text.replace(/-/g, "\u2212");
const grouped = (value, decimals = 0) =>
  value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });

// 22600000 -> "22.6M"; below a million every digit is shown.
function formatCount(value) {
  if (!isNumber(value)) return "\u2013";
  for (const [size, suffix] of [[1e12, "T"], [1e9, "B"], [1e6, "M"]]) {
    if (Math.abs(value) >= size) return withMinus(String(Number((value / size).toPrecision(3)))) + suffix;
  }
  return withMinus(grouped(Math.round(value)));
}

// Four significant digits.
function formatValue(value) {
  if (!isNumber(value)) return "\u2013";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e6) return formatCount(value);
  if (size < 1e-3) return withMinus(value.toExponential(2));
  return withMinus(grouped(value, Math.max(0, 3 - Math.floor(Math.log10(size)))));
}

const formatShare = (value) => (isNumber(value) ? `${(100 * value).toFixed(1)}\u202f%` : "\u2013");

// Ticks 1, 2 or 5 times a power of ten apart inside [low, high], about `wanted` of them; `least` apart where given.
function linearTicks(low, high, wanted, least = 0) {
  const rough = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(least, power * ([1, 2, 5].find((factor) => rough <= factor * power * 1.4) || 10));
  const values = [];
  for (let i = Math.ceil(low / step - 1e-6); i * step <= high + step * 1e-6; ++i) values.push(i * step);
  return { values, label: (value) => tickLabel(value, step) };
}

// Powers of ten, with 2 and 5 between them where there are few; linear ticks where even those are too few.
function logTicks(low, high, wanted) {
  const decades = Math.log10(high / low);
  const factors = decades > wanted ? [1] : [1, 2, 5];
  const every = Math.max(1, Math.ceil(decades / wanted));
  const values = [];
  for (let exponent = Math.floor(Math.log10(low)); exponent <= Math.log10(high); exponent += every) {
    for (const factor of factors) {
      const value = factor * 10 ** exponent;
      if (value >= low * 0.999 && value <= high * 1.001) values.push(value);
    }
  }
  if (values.length < 3) return linearTicks(low, high, wanted);
  return { values, label: (value) => tickLabel(value, 10 ** Math.floor(Math.log10(value) + 1e-9)) };
}

function tickLabel(value, step) {
  const size = Math.abs(value);
  if (size < step * 1e-6) return "0";
  if (size >= 1e6) return formatCount(value);
  const exponent = Math.floor(Math.log10(step) + 1e-9);
  if (exponent >= -5) return withMinus(grouped(value, Math.max(0, -exponent)));
  return withMinus(value.toExponential(Math.max(0, Math.floor(Math.log10(size) + 1e-9) - exponent)));
}

// ColorBrewer's PuOr from purple over white to orange, which any colour vision tells apart, as scripts/plot.py has it.
const kColours11 = ["2d004b", "542788", "8073ac", "b2abd2", "d8daeb", "f7f7f7", "fee0b6", "fdb863", "e08214", "b35806", "7f3b08"]
  .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
function divergingColour(place) {
  const at = Math.min(1, Math.max(0, place)) * (kColours11.length - 1);
  const low = Math.min(Math.floor(at), kColours11.length - 2);
  return kColours11[low].map((value, i) => Math.round(value + (at - low) * (kColours11[low + 1][i] - value)));
}
