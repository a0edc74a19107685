// alarm list, disarm

import EtcdAPI
import EtcdClient

enum AlarmCommand {
  static let spec = CommandSpec(
    "alarm", "", "Alarm related commands", group: .cluster,
    subcommands: [
      CommandSpec("list", "", "Lists all alarms", action: list),
      CommandSpec("disarm", "", "Disarms all alarms", action: disarm),
    ])

  @Sendable
  private static func list(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.isEmpty else {
      throw .badArguments("alarm list command accepts no arguments")
    }
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.alarm(Etcdserverpb_AlarmRequest())
    }
    try show(response, session)
  }

  /// The server takes one alarm at a time.
  @Sendable
  private static func disarm(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.isEmpty else {
      throw .badArguments("alarm disarm command accepts no arguments")
    }
    let session = try await call.connect()
    let disarmed = try await reporting { () async throws(EtcdClientError) in
      var disarmed = Etcdserverpb_AlarmResponse()
      let raised = try await session.client.alarm(Etcdserverpb_AlarmRequest()).alarms
      for alarm in raised {
        var request = Etcdserverpb_AlarmRequest()
        request.action = .deactivate
        request.memberID = alarm.memberID
        request.alarm = alarm.alarm
        disarmed.alarms += try await session.client.alarm(request).alarms
      }
      return disarmed
    }
    try show(disarmed, session)
  }

  private static func show(
    _ response: Etcdserverpb_AlarmResponse, _ session: Session
  ) throws(CommandFailure) {
    try session.show(
      simple: { $0.alarms(response) }, json: { JSONPrinter.alarms(response) },
      fields: { $0.alarms(response) }, protobuf: response)
  }
}
