"""The numbers an update logs, each with its definition."""

from __future__ import annotations

METRICS: dict[str, str] = {
    "env_steps": "env steps of the run, ancestors included, when the update was made",
    "sparse_return": "mean undiscounted, unshaped return of the episodes that finished in the rollout",
    "progress": "mean over those episodes of the mean progress over their steps, in [0, 1]",
    "shaped_return": "mean undiscounted return with shaping of those episodes, averaged over agents",
    "beta": "strength of the shaping at the end of the rollout",
    "entropy": "mean entropy of the policy, in nats, over the minibatches of the update",
    "approximate_kl": "mean of (ratio - 1) - log(ratio), an estimate of KL(old policy | new policy), over minibatches",
    "clip_fraction": "share of actions whose probability ratio left the clipping range, over minibatches",
    "policy_loss": "mean negative clipped objective, without the entropy bonus, over minibatches",
    "value_loss": "mean clipped squared error (halved) of normalised values, over minibatches",
    "explained_variance": "1 - var(return - value) / var(return) of the rollout; None where returns do not vary",
    "gradient_norm": "mean norm of the gradient of actor or value network before it is scaled down, over minibatches",
    "epsilon": "probability of a random action in the rollout (QMIX, VDN)",
    "td_loss": "mean squared error (halved) of joint values against one-step targets, over batches (QMIX, VDN)",
    "joint_value": "mean joint value of states and actions drawn from the replay, over batches (QMIX, VDN)",
    "replay_env_steps": "env steps that the replay holds (QMIX, VDN)",
}
"""Every number an update logs, with its definition. A value is None where it does not exist, never 0."""
