/** Names that package.json and the server know as well. */
export const COMMAND = "diffill.ui.";
export const SECTION = "diffill";
export const PREVIEW_SCHEME = "diffill-preview";
export const RUNNING = "diffill.running";
export const PREVIEW_VISIBLE = "diffill.previewVisible";
export const PREVIEW_READY = "diffill.previewReady";
export const PREVIEW_INSTRUCTED = "diffill.previewInstructed";
export const MAY_INSTRUCT = "diffill.mayInstruct"; // the model follows instructions, or it is not known yet
export const HOLES_VISIBLE = "diffill.holesVisible";
