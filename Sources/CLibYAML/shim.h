// libyaml: reads YAML 1.1.
#pragma once
#include <yaml.h>
