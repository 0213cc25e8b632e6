// Does what heap.c does, with Go's allocator: blocks are zeros when they are made, and half of the heap is given back.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"time"
)

var sizes = []int{104, 504, 2000, 9000, 70000, 600000}

func number(at int) int {
	n, err := strconv.Atoi(os.Args[at])
	if err != nil {
		panic(err)
	}
	return n
}

func fill(block []byte, seed int) {
	for i := range block {
		block[i] = byte(seed*31+i*7) | 1
	}
}

func isFilled(block []byte, seed int) bool {
	for i, value := range block {
		if value != byte(seed*31+i*7)|1 {
			return false
		}
	}
	return true
}

func isZero(block []byte) bool {
	for _, value := range block {
		if value != 0 {
			return false
		}
	}
	return true
}

func hold(limit int) [][]byte {
	var kept [][]byte
	used := make([]int, len(sizes))
	for total := 0; total < limit; {
		class := 0
		for i := range sizes {
			if used[i] < used[class] {
				class = i
			}
		}
		block := make([]byte, sizes[class])
		kept = append(kept, block)
		fill(block, len(kept)-1)
		used[class] += len(block)
		total += len(block)
	}
	return kept
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func main() {
	kept := hold(number(1) << 20)
	fmt.Println("warm")
	for !isThere("/snapshot-control/go") {
		time.Sleep(time.Millisecond)
	}
	for i := 1; i < len(kept); i += 2 {
		kept[i] = nil
	}
	differences, dirty := 0, 0
	debug.FreeOSMemory()
	if exec.Command("/bin/true").Run() != nil {
		differences++
	}
	for end := time.Now().Add(time.Duration(number(3)) * time.Second); time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	made := make([][]byte, number(2))
	for i := range made {
		made[i] = make([]byte, 16+i%40*8)
		if !isZero(made[i]) {
			dirty++
		}
		fill(made[i], i)
	}
	for i, block := range made {
		if !isFilled(block, i) {
			differences++
		}
	}
	for i := 0; i < len(kept); i += 2 {
		if !isFilled(kept[i], i) {
			differences++
		}
	}
	fmt.Printf("%d differences, %d of %d blocks dirty\n", differences, dirty, len(made))
}
