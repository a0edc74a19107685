// Users, roles and permissions.

extension EtcdError {
  public static let rootUserMissing = EtcdError(
    .failedPrecondition, "etcdserver: root user does not exist")
  public static let rootRoleMissing = EtcdError(
    .failedPrecondition, "etcdserver: root user does not have root role")
  public static let userExists = EtcdError(
    .failedPrecondition, "etcdserver: user name already exists")
  public static let userEmpty = EtcdError(.invalidArgument, "etcdserver: user name is empty")
  public static let userNotFound = EtcdError(
    .failedPrecondition, "etcdserver: user name not found")
  public static let roleExists = EtcdError(
    .failedPrecondition, "etcdserver: role name already exists")
  public static let roleEmpty = EtcdError(.invalidArgument, "etcdserver: role name is empty")
  public static let roleNotFound = EtcdError(
    .failedPrecondition, "etcdserver: role name not found")
  public static let roleNotGranted = EtcdError(
    .failedPrecondition, "etcdserver: role is not granted to the user")
  public static let permissionNotGranted = EtcdError(
    .failedPrecondition, "etcdserver: permission is not granted to the role")
  public static let permissionNotGiven = EtcdError(
    .invalidArgument, "etcdserver: permission not given")
  public static let permissionDenied = EtcdError(
    .permissionDenied, "etcdserver: permission denied")
  public static let authFailed = EtcdError(
    .invalidArgument, "etcdserver: authentication failed, invalid user ID or password")
  public static let authNotEnabled = EtcdError(
    .failedPrecondition, "etcdserver: authentication is not enabled")
  public static let invalidAuthToken = EtcdError(
    .unauthenticated, "etcdserver: invalid auth token")
  public static let invalidAuthManagement = EtcdError(
    .invalidArgument, "etcdserver: invalid auth management")
  public static let authRevisionOld = EtcdError(
    .invalidArgument, "etcdserver: revision of auth store is old")

  // Those that etcd has forgotten to give a code.
  public static let noPasswordUser = EtcdError(
    .unknown, "auth: authentication failed, password was given for no password user")
  public static let tokenVerifyOnly = EtcdError(
    .unknown, "auth: token signing attempted with verify-only key")
  public static let passwordTooLong = EtcdError(
    .unknown, "bcrypt: password length exceeds 72 bytes")
}
