package telemetry

// BuiltFrom is builtFrom, for the tests.
var BuiltFrom = builtFrom
