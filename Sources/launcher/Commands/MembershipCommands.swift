// launcher add, remove, replace

import ArgumentParser

struct AddCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "add",
    abstract: "Add a member to the running cluster, and start it.",
    discussion: """
      The member is announced to the cluster as a learner, started with an empty data folder, and \
      made a voter once it has caught up. Its addresses stand in the cluster's file, if it is \
      written there already, or are given here, or are the next free ports; then it is added to \
      the file.

      Examples:

        launcher add m4
        launcher add m4 --client-url http://127.0.0.1:42379 --peer-url http://127.0.0.1:42380
        launcher add m4 --learner       # leave it a learner
        launcher add m4 --user root:secret
      """)

  @Argument(help: "The new member's name.")
  var member: String

  @Option(name: .long, help: "Where it serves clients.")
  var clientURL: String?

  @Option(name: .long, help: "Where it serves the other members.")
  var peerURL: String?

  @Flag(name: .long, help: "Do not make it a voter.")
  var learner = false

  @OptionGroup var user: UserOption
  @OptionGroup var cluster: ClusterOption

  func run() throws {
    try perform(
      ControlRequest(
        .add, members: [member], clientURL: clientURL, peerURL: peerURL, isLearner: learner,
        user: try user.named()),
      cluster)
  }
}

struct RemoveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove",
    abstract: "Take a member out of the running cluster, and end it.",
    discussion: """
      The cluster removes the member first, then its process ends. Its data is kept as \
      <data-dir>/<name>.removed, and it is taken out of the cluster's file.

      Examples:

        launcher remove m4
        ETCDCTL_USER=root:secret launcher remove m4
      """)

  @Argument(help: "The member's name.")
  var member: String

  @OptionGroup var user: UserOption
  @OptionGroup var cluster: ClusterOption

  func run() throws {
    try perform(ControlRequest(.remove, members: [member], user: try user.named()), cluster)
  }
}

struct ReplaceCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replace",
    abstract: "Remove a member, dead or alive, and add it again with an empty data folder.",
    discussion: """
      For a member whose data is lost or damaged: it comes back under its name and addresses with \
      a new id, and gets everything from the others.

      Examples:

        launcher replace m2
      """)

  @Argument(help: "The member's name.")
  var member: String

  @OptionGroup var user: UserOption
  @OptionGroup var cluster: ClusterOption

  func run() throws {
    try perform(ControlRequest(.replace, members: [member], user: try user.named()), cluster)
  }
}
