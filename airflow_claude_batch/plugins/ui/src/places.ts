/** Parts of the page that its tiles lead to, by their ids. */
export const IN_FLIGHT = "claude-batches-in-flight";
export const MONEY = "claude-batches-money";
export const NEXT = "claude-batches-next";
