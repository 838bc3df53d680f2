// Writes profiles of itself into a directory, as Go programs do: go_program DIRECTORY
package main

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"
)

type node struct{ left, right *node }

//go:noinline
func tree(depth int) *node {
	if depth == 0 {
		return &node{}
	}
	return &node{tree(depth - 1), tree(depth - 1)}
}

func spin(until time.Time) (n int) {
	for time.Now().Before(until) {
		for i := 0; i < 1000; i++ {
			n += i * i
		}
	}
	return n
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

var kept *node

func main() {
	create := func(name string) *os.File {
		file, err := os.Create(filepath.Join(os.Args[1], "go_"+name+".prof"))
		check(err)
		return file
	}
	runtime.MemProfileRate = 4096
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)

	cpu := create("cpu")
	check(pprof.StartCPUProfile(cpu))
	until := time.Now().Add(400 * time.Millisecond)
	pprof.Do(context.Background(), pprof.Labels("phase", "spin", "request id", "7"), func(context.Context) { spin(until) })
	kept = tree(16)
	pprof.StopCPUProfile()
	check(cpu.Close())

	var mutex sync.Mutex
	var group sync.WaitGroup
	mutex.Lock()
	for i := 0; i < 3; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			mutex.Lock()
			time.Sleep(time.Millisecond)
			mutex.Unlock()
		}()
	}
	time.Sleep(5 * time.Millisecond)
	mutex.Unlock()
	group.Wait()
	runtime.GC()
	for _, name := range []string{"heap", "allocs", "block", "mutex", "goroutine", "threadcreate"} {
		file := create(name)
		check(pprof.Lookup(name).WriteTo(file, 0))
		check(file.Close())
	}
}
