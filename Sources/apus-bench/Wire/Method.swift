// The calls that the generator makes.

/// A unary call of the etcd API, or one that is used like one.
enum Method: Int, CaseIterable, Sendable {
  case put, range, txn, leaseGrant, leaseKeepAlive

  var path: StaticString {
    switch self {
    case .put: "/etcdserverpb.KV/Put"
    case .range: "/etcdserverpb.KV/Range"
    case .txn: "/etcdserverpb.KV/Txn"
    case .leaseGrant: "/etcdserverpb.Lease/LeaseGrant"
    // One request, then the end of the stream: the server answers once and closes.
    case .leaseKeepAlive: "/etcdserverpb.Lease/LeaseKeepAlive"
    }
  }

  static let watchPath: StaticString = "/etcdserverpb.Watch/Watch"

  var label: String {
    switch self {
    case .put: "put"
    case .range: "range"
    case .txn: "txn"
    case .leaseGrant: "lease grant"
    case .leaseKeepAlive: "lease keepalive"
    }
  }
}
