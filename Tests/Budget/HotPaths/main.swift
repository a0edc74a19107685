// Drives the hot paths N times on one thread, without network or disk waits, so that the instructions
// of each can be counted: hot-paths PATH COUNT. Tests/Budget/budget.py compares two counts.

import Base
import EtcdAPI
import Glibc
import HTTP
import RaftActor
import StoreActor

guard CommandLine.arguments.count == 3, let count = Int(CommandLine.arguments[2]) else {
  print("usage: hot-paths put|follower|txn|range|watch COUNT")
  exit(2)
}
switch CommandLine.arguments[1] {
case "put": try PutPath().run(count)
case "follower": try FollowerPath(.put).run(count)
case "txn": try FollowerPath(.txn).run(count)
case "range": RangePath().run(count)
case "watch": WatchPath().run(count)
default:
  print("no such path")
  exit(2)
}
