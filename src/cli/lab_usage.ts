/** What `fairway lab --help` prints; the manual page has it, too. */
export const LAB_USAGE = `Usage: fairway lab COMMAND [--name NAME]

  up [--manifests DIR] [--config FILE]  start a cluster; default: examples/two-subnets
                                        (config.d/NODE.yaml beside FILE: for that Node only)
  down [--all]                          remove it, and what killed labs have left behind
  status [-o text|json]                 list its machines and their addresses
  exec MACHINE COMMAND...               run a command on a Node, in a Pod, on "router" or "outside"
  ping [-o text|json]                   ping from every Pod to every other and to the outside

Exit status: 0 done, 1 failed (ping: a Pod was not reached), 2 bad usage; exec: the command's.
`;
