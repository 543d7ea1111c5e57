// Part of report.inl: the look of the page.
#pragma once
#include <cstddef>
#include <string_view>

#include "tl/core/config.hpp"

namespace tl::inline TL_ABI::detail {

/// Runs that have a colour of their own, c0 to c7; c8 is for those that are not drawn. g0 to g11 are groups of
/// parameters, from the head to the input.
inline constexpr size_t kRunColours = 8;

/// Colours of runs have a contrast of at least 4.5 to their background, so that names can be written in them. Text on
/// shaded cells keeps the colour of text: the shades stay light (dark in the dark) enough for it.
inline constexpr std::string_view kReportStyle = R"css(
:root {
  color-scheme: light dark;
  --page: #f5f6f8; --card: #fff; --ink: #151a21; --muted: #57606d; --rule: #e2e5ea; --track: #edeff3;
  --accent: #1f5fd6; --good: #0f7a4d; --bad: #b93815; --warn-ink: #6f4200; --warn: #fff6e0; --warn-rule: #f0d596;
  --hit: 31, 95, 214; --miss: 219, 78, 34;
  --c0: #1f5fd6; --c1: #c2410c; --c2: #0b766c; --c3: #8b32d9;
  --c4: #b4236a; --c5: #4a7a0d; --c6: #475569; --c7: #8a5a08;
  --shade: 68% 43%;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #0e1116; --card: #161a21; --ink: #e7eaef; --muted: #9ca6b4; --rule: #2a303a; --track: #262c36;
    --accent: #7aa7ff; --good: #4cc38a; --bad: #ff8f6b; --warn-ink: #f5d48a; --warn: #2b230f; --warn-rule: #574519;
    --hit: 46, 98, 205; --miss: 190, 66, 28;
    --c0: #7aa7ff; --c1: #ff9d5c; --c2: #4fd1c0; --c3: #c39bff;
    --c4: #ff8ab8; --c5: #a8d45a; --c6: #b3bdcb; --c7: #e3b04b;
    --shade: 85% 72%;
  }
}
* { box-sizing: border-box; }
html { font-size: 93.75%; -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1180px; margin: 0 auto; padding: 40px 24px 56px; }
h1, h2, h3, p, figure, dl, dd, ul { margin: 0; padding: 0; }
h1 { font-size: 2.133rem; line-height: 1.2; letter-spacing: -.02em; text-wrap: balance; }
h2 { font-size: 1.333rem; letter-spacing: -.01em; margin: 44px 0 12px; }
h2:has(+ .note) { margin-bottom: 4px; }
h3 { font-size: 1rem; }
h1, h2, h3, p, td, th, dd, li, figcaption { overflow-wrap: anywhere; }
.lede { font-size: 1.2rem; color: var(--muted); margin-top: 8px; max-width: 62ch; }
.note { color: var(--muted); max-width: 75ch; margin-bottom: 14px; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 18px 20px; }
.muted { color: var(--muted); }
.small { font-size: .867rem; }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 14px; margin-top: 26px; }
.tiles .label { color: var(--muted); font-size: .867rem; }
.tiles .value { font-size: 1.867rem; font-weight: 650; letter-spacing: -.02em; line-height: 1.25; }
.warnings { background: var(--warn); border-color: var(--warn-rule); color: var(--warn-ink); margin-top: 22px; }
.warnings ul { padding-left: 20px; margin-top: 4px; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 12px 24px; }
.facts dt { color: var(--muted); font-size: .867rem; }

.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.list { width: 100%; }
.list th { font-weight: 600; font-size: .867rem; color: var(--muted); text-align: left; white-space: nowrap; }
.list th, .list td { padding: 8px 14px 8px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
.list th:last-child, .list td:last-child { padding-right: 0; }
.list tbody tr:last-child > * { border-bottom: 0; }
.list tbody th { color: var(--ink); font-size: 1rem; font-weight: 600; white-space: normal; min-width: 9em; }
.list .number { text-align: right; white-space: nowrap; }
.list tbody th .small { display: block; font-weight: 400; color: var(--muted); }
.dot {
  display: inline-block; width: 10px; height: 10px; border-radius: 50%; background: var(--c);
  margin-right: 8px;
}
.best {
  white-space: nowrap; font-size: .8rem; font-weight: 600; color: var(--good); border: 1px solid;
  border-radius: 99px; padding: 1px 8px; margin-left: 8px;
}
.bar {
  display: block; height: 5px; min-width: 90px; border-radius: 3px; background: var(--track); margin-top: 5px;
  overflow: hidden;
}
.bar i { display: block; height: 100%; border-radius: 3px; background: var(--c, var(--accent)); }

.track {
  display: block; position: relative; height: 10px; min-width: 120px; border-radius: 5px; background: var(--track);
  margin-top: 6px; overflow: hidden;
}
.track i { position: absolute; top: 0; bottom: 0; background: var(--c); border-radius: 5px; }

.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: .867rem; margin: 8px 0 14px; }
.legend svg { width: 30px; height: 10px; margin-right: 6px; }
.legend svg.map { width: 12px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 310px), 1fr)); gap: 14px; }
.charts.pair { grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); }
.charts.below { margin-top: 14px; }
.charts .facts { grid-template-columns: 1fr; align-content: start; }
.charts figure { display: flex; flex-direction: column; justify-content: space-between; }
.charts svg { overflow: visible; display: block; width: 100%; height: auto; margin-top: 8px; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
svg .tick { fill: var(--muted); font-variant-numeric: tabular-nums; }
svg .name { fill: var(--c); font-weight: 600; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg polyline, svg .key {
  fill: none; stroke: var(--c, currentColor); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round;
}
svg circle { fill: var(--c); }
svg .dashed circle { fill: var(--card); stroke: var(--c); stroke-width: 1.5; }
svg polygon { fill: var(--c); opacity: .14; }
svg .mark { stroke: var(--muted); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg.map path { fill: var(--c); stroke: var(--card); stroke-width: .6; opacity: .85; }
svg .told { fill: var(--c0); } svg .count { fill: var(--muted); opacity: .6; } svg .gap { fill: var(--bad); opacity: .45; }
svg .dashed polyline, svg .key.dashed { stroke-width: 1.5; stroke-dasharray: 2 4; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); }
.c4 { --c: var(--c4); } .c5 { --c: var(--c5); } .c6 { --c: var(--c6); } .c7 { --c: var(--c7); }
.c8 { --c: var(--muted); }
.g0 { --c: hsl(215 var(--shade)); } .g1 { --c: hsl(231 var(--shade)); } .g2 { --c: hsl(248 var(--shade)); }
.g3 { --c: hsl(264 var(--shade)); } .g4 { --c: hsl(280 var(--shade)); } .g5 { --c: hsl(297 var(--shade)); }
.g6 { --c: hsl(313 var(--shade)); } .g7 { --c: hsl(330 var(--shade)); } .g8 { --c: hsl(346 var(--shade)); }
.g9 { --c: hsl(3 var(--shade)); } .g10 { --c: hsl(19 var(--shade)); } .g11 { --c: hsl(35 var(--shade)); }

.stack { display: grid; grid-template-columns: minmax(0, 1fr); gap: 14px; align-items: start; }
.split { grid-template-columns: minmax(0, max-content) minmax(260px, 1fr); }
.matrix th { font-weight: 400; font-size: .867rem; color: var(--muted); }
.matrix thead th { vertical-align: bottom; padding: 0 0 6px; }
.matrix thead span { display: inline-block; writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; }
.matrix tbody th { text-align: right; padding: 0 8px 0 0; white-space: nowrap; }
.matrix tbody td {
  min-width: 36px; height: 30px; text-align: center; font-size: .867rem;
  border: 2px solid var(--card); border-radius: 6px; background: rgba(var(--miss), var(--v, 0));
}
.matrix.dense tbody td { min-width: 28px; }
.matrix tbody td.hit { background: rgba(var(--hit), var(--v, 0)); font-weight: 600; }
.matrix tbody td:empty { background: var(--page); }

.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(46%, 158px), 1fr)); gap: 14px; }
.pictures figure { padding: 10px; display: flex; flex-direction: column; }
.pictures img {
  width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 7px; background: var(--track);
  display: block;
}
.pictures figcaption { padding: 8px 2px 0; line-height: 1.35; }
.pictures .said { font-weight: 600; }
.pictures .file { color: var(--muted); font-size: .8rem; display: block; margin-top: 4px; }
.right { color: var(--good); } .wrong { color: var(--bad); }
details summary { cursor: pointer; color: var(--accent); padding-top: 12px; }
footer { margin-top: 44px; color: var(--muted); font-size: .867rem; }

@media (max-width: 820px) { .split { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 560px) {
  main { padding: 24px 14px 40px; }
  h1 { font-size: 1.733rem; }
  .card { padding: 14px; }
  .tiles, .facts { grid-template-columns: 1fr 1fr; gap: 10px; }
  .tiles .value { font-size: 1.467rem; }
  .list tbody th { min-width: 7em; }
  .bar { min-width: 48px; }
}
@media print {
  :root { --page: #fff; }
  html { font-size: 10px; }
  main { max-width: none; padding: 0; }
  h2, .note, .legend { break-after: avoid; }
  h2 { margin-top: 24px; }
  figure, tr, dl, .tiles, .facts, .warnings, .split .card { break-inside: avoid; }
  .tiles { grid-template-columns: repeat(4, 1fr); }
  .charts { grid-template-columns: repeat(3, 1fr); }
  .charts.pair { grid-template-columns: repeat(2, 1fr); }
  .split { grid-template-columns: max-content 1fr; }
  .pictures { grid-template-columns: repeat(6, 1fr); }
  .scroll { overflow: visible; }
  .bar, .track, .track i, .dot, .matrix td, .warnings, .pictures img { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
)css";

}  // namespace tl::inline TL_ABI::detail
