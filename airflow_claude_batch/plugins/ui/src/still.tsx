/** Nothing slides or pulses for who has asked their system for less motion. */

/** A class for what is drawn outside of the page's own element: dialogs, drawers, what lies behind them. */
export const STILL = "claude-batches-still";

const STYLE = `@media (prefers-reduced-motion: reduce) {
  .${STILL}, .${STILL} *, .${STILL} *::before, .${STILL} *::after {
    animation: none !important; transition: none !important; scroll-behavior: auto !important;
  }
}`;

export const Still = () => <style>{STYLE}</style>;
