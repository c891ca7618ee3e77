export { makeComponents, predictComponents, type MadeComponent } from "./components.ts";
export type * from "./contract.ts";
export { makeMachineData } from "./machine.ts";
export { surveyImage, type SurveyedImage } from "./survey.ts";
