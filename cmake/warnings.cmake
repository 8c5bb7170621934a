# One interface target carries the project's dialect, warnings and hardening.
add_library(spend_flags INTERFACE)
target_compile_definitions(spend_flags INTERFACE _GNU_SOURCE SPEND_VERSION="${PROJECT_VERSION}")
target_compile_options(spend_flags INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes
    -Wmissing-prototypes -Wold-style-definition -Wpointer-arith -Wcast-qual -Wcast-align=strict
    -Wwrite-strings -Wformat=2 -Wformat-signedness -Wundef -Wswitch-enum -Wimplicit-fallthrough
    -Wvla -Walloca -Wnull-dereference -Wdouble-promotion -Wfloat-equal -Wduplicated-cond
    -Wduplicated-branches -Wlogical-op -Wjump-misses-init -Wdate-time -Wstack-usage=16384)
if(SPEND_WERROR)
    target_compile_options(spend_flags INTERFACE -Werror)
endif()
if(SPEND_HARDEN)
    # assert() stays on in releases: a broken invariant on money aborts, Kafka replays.
    target_compile_options(spend_flags INTERFACE
        -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection
        -fcf-protection=full -fno-strict-overflow -fno-delete-null-pointer-checks
        -ftrivial-auto-var-init=zero -fPIE)
    target_link_options(spend_flags INTERFACE -pie -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed)
endif()
