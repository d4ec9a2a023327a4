/// The style of `report.html`: one column on a phone, cards in a grid on a desk, light or dark as the reader prefers.
let reportStyle = """
  :root {
    color-scheme: light dark;
    --page: #f5f4ef; --card: #fffefb; --ink: #22241f; --soft: #676a62; --rule: #e2e0d6;
    --training: #1d63d8; --fresh: #cf5a0b; --moving: #7d5bbe;
    --good: #1f7a4d; --bad: #c02f25; --heat: 29 99 216; --track: #ecebe3;
  }
  @media (prefers-color-scheme: dark) {
    :root {
      --page: #131513; --card: #1c1f1c; --ink: #e9eae4; --soft: #a0a59c; --rule: #30342f;
      --training: #6aa9ff; --fresh: #ff9d57; --moving: #bda2f7;
      --good: #63c795; --bad: #ff8379; --heat: 90 155 250; --track: #2a2e2a;
    }
  }
  * { box-sizing: border-box; }
  body {
    margin: 0; background: var(--page); color: var(--ink);
    font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
    -webkit-text-size-adjust: 100%;
  }
  main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 56px; }
  header p { margin: 0; color: var(--soft); overflow-wrap: anywhere; }
  h1 { margin: 2px 0 4px; font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.15; letter-spacing: -0.02em;
    font-weight: 700; overflow-wrap: anywhere; }
  h2 { margin: 44px 0 4px; font-size: 1.3rem; letter-spacing: -0.01em; }
  h3 { margin: 0; font-size: 1rem; }
  .note { margin: 0 0 14px; color: var(--soft); max-width: 68ch; font-size: 0.94rem; }
  .eyebrow { text-transform: uppercase; letter-spacing: 0.09em; font-size: 0.75rem; font-weight: 600; }
  .card { background: var(--card); border: 1px solid var(--rule); border-radius: 14px; padding: 18px; }
  .card > .note { margin: 12px 0 0; }
  .progress { height: 6px; border-radius: 3px; background: var(--track); margin: 18px 0 0; overflow: hidden; }
  .progress > div { height: 100%; background: var(--training); border-radius: 3px; }
  .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: 18px; }
  .tile .value { font-size: 1.65rem; font-weight: 650; letter-spacing: -0.02em; line-height: 1.2;
    font-variant-numeric: tabular-nums; }
  .tile .name, .tile .hint { color: var(--soft); font-size: 0.84rem; }
  .two > .scroll { justify-self: start; max-width: 100%; }
  .two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 14px; }
  .legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 6px 0 8px; padding: 0; list-style: none;
    font-size: 0.86rem; color: var(--soft); }
  .legend b { color: var(--ink); font-variant-numeric: tabular-nums; font-weight: 600; }
  .legend i { display: inline-block; width: 18px; height: 0; border-top: 3px solid; margin-right: 6px;
    vertical-align: 4px; border-radius: 2px; }
  .legend i.training { border-color: var(--training); } .legend i.fresh { border-color: var(--fresh); }
  .legend i.moving { border-color: var(--moving); border-top-style: dashed; }
  .chart { display: block; width: 100%; height: auto; }
  .chart .grid { stroke: var(--rule); stroke-width: 1; }
  .chart .tick { fill: var(--soft); font-size: 11.5px; font-variant-numeric: tabular-nums; }
  .chart .line { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
  .chart .training { stroke: var(--training); } .chart .fresh { stroke: var(--fresh); }
  .chart .moving { stroke: var(--moving); } .chart .line.moving { stroke-dasharray: 5 4; }
  .chart .line.steps { stroke: var(--training); stroke-width: 1; opacity: 0.42; }
  .chart circle.dot { stroke: var(--card); stroke-width: 1.5; }
  .chart .dot.training { fill: var(--training); } .chart .dot.fresh { fill: var(--fresh); }
  .chart .dot.moving { fill: var(--moving); }
  figure { margin: 0; min-width: 0; }
  img { display: block; width: 100%; height: auto; border-radius: 6px; background: var(--track); }
  .pixels img { image-rendering: pixelated; }
  figcaption { font-size: 0.8rem; line-height: 1.35; color: var(--soft); margin-top: 5px; overflow-wrap: anywhere; }
  .strips { display: grid; gap: 18px; }
  .strip { display: grid; grid-template-columns: repeat(3, 1fr); gap: 10px; }
  @media (min-width: 800px) {
    .strip { grid-template-columns: repeat(var(--columns), 1fr); }
    .strip:not(:first-child) figcaption { display: none; }
    .strip:first-child figure { display: flex; flex-direction: column-reverse; justify-content: flex-end; }
    .strip:first-child figcaption { margin: 0 0 6px; }
  }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th { font-weight: 600; text-align: left; }
  .matrix { border-collapse: separate; border-spacing: 3px; font-size: 0.92rem; }
  .matrix th { color: var(--soft); font-size: 0.84rem; padding: 4px 8px; max-width: 12em; overflow-wrap: anywhere; }
  .matrix thead th { text-align: center; vertical-align: bottom; }
  .matrix tbody th { text-align: right; }
  .matrix td { min-width: 58px; text-align: center; padding: 9px 8px; border-radius: 7px;
    background: rgb(var(--heat) / calc(0.05 + 0.8 * var(--share))); }
  .matrix td.deep { color: #fff; }
  .matrix td.deep.right, .matrix td.right { font-weight: 650; }
  .matrix td.recall { background: none; color: var(--soft); }
  .matrix.dense { border-spacing: 1px; font-size: 0.72rem; }
  .matrix.dense td { min-width: 30px; padding: 4px 3px; border-radius: 3px; }
  .matrix.dense th { font-size: 0.72rem; padding: 2px 5px; }
  .plain { width: 100%; font-size: 0.92rem; }
  .plain th, .plain td { padding: 7px 12px 7px 0; border-top: 1px solid var(--rule); vertical-align: top;
    overflow-wrap: anywhere; text-align: left; }
  .plain tr:first-child > * { border-top: 0; }
  .plain th { color: var(--soft); font-weight: 500; width: 42%; }
  .plain td:last-child { padding-right: 0; }
  .mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 16px 14px; }
  .mistakes img { aspect-ratio: 1; object-fit: cover; border-radius: 10px; }
  .mistakes .said { color: var(--bad); font-weight: 600; font-size: 0.92rem; }
  .mistakes .was { color: var(--ink); font-size: 0.88rem; }
  .mistakes .file { display: block; font-size: 0.75rem; }
  .bars { display: grid; grid-template-columns: minmax(0, auto) auto minmax(60px, 1fr) auto; gap: 7px 14px;
    align-items: center; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
  .bars .track { height: 10px; border-radius: 5px; background: var(--track); overflow: hidden; }
  .bars .track div { height: 100%; border-radius: 5px; background: var(--training); }
  .bars .number, .bars .detail { text-align: right; white-space: nowrap; }
  .bars .detail { color: var(--soft); font-size: 0.84em; }
  @media (max-width: 560px) {
    main { padding: 20px 14px 40px; }
    .card { padding: 14px; border-radius: 12px; }
    .tiles { grid-template-columns: repeat(2, 1fr); gap: 10px; }
    .tile .value { font-size: 1.35rem; }
    .tile:last-child:nth-child(odd) { grid-column: 1 / -1; }
    .mistakes { grid-template-columns: repeat(2, 1fr); }
    .bars { grid-template-columns: 1fr auto; gap: 2px 10px; }
    .bars .track { grid-column: 1 / -1; height: 7px; }
    .bars .detail { grid-column: 1 / -1; text-align: left; margin-bottom: 10px; }
  }
  footer { margin-top: 44px; color: var(--soft); font-size: 0.84rem; }
  @media print { body { background: #fff; } .card { break-inside: avoid; } }
  """
