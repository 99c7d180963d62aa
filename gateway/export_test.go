package main

// What the tests, which are outside of the package, need of it.
var (
	Main = main
	Run  = run
)
