// k6 with streams of server-sent events: its own command line, and the module "k6/x/sse".
package main

import (
	"go.k6.io/k6/cmd"
	"go.k6.io/k6/js/modules"
)

func init() {
	modules.Register("k6/x/sse", root{})
}

func main() {
	cmd.Execute()
}
