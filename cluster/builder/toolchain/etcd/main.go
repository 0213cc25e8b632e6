// Command etcd is the stock server: upstream's own main package cannot be
// installed by version because its go.mod carries replace lines.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
