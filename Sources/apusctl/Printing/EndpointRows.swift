// What the endpoint commands have found out, per endpoint.

import EtcdAPI

struct EndpointHealth: Sendable, Equatable {
  var endpoint: String
  var isHealthy: Bool
  /// A Go duration.
  var took: String
  /// Empty if there is none.
  var error = ""
}

struct EndpointStatus: Sendable {
  var endpoint: String
  var response: Etcdserverpb_StatusResponse
}

struct EndpointHash: Sendable {
  var endpoint: String
  var response: Etcdserverpb_HashKVResponse
}
