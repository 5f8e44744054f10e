// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

// The two settlement contracts of x402 for Permit2, written for the tests from their public interface and placed at
// their canonical addresses. A payer signs for one of them as the spender, with the receiver in the witness.

interface IPermit2 {
    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    struct Permit {
        TokenPermissions permitted;
        uint256 nonce;
        uint256 deadline;
    }

    struct Transfer {
        address to;
        uint256 requestedAmount;
    }

    function permitWitnessTransferFrom(
        Permit calldata permit,
        Transfer calldata transfer,
        address owner,
        bytes32 witness,
        string calldata witnessType,
        bytes calldata signature
    ) external;
}

interface IPermitToken {
    function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external;
}

abstract contract Permit2Proxy {
    struct Permit2612 {
        uint256 value;
        uint256 deadline;
        bytes32 r;
        bytes32 s;
        uint8 v;
    }

    IPermit2 internal constant PERMIT2 = IPermit2(0x000000000022D473030F116dDEE9F6B43aC78BA3);

    error NothingToSettle();
    error NobodyToPay();
    error TooEarly();
    error Permit2612AmountMismatch();

    /// The token need not take it: somebody may have brought it already. Whether enough is allowed now, Permit2 finds out.
    function _approve(Permit2612 calldata permit2612, address token, uint256 amount, address owner) internal {
        if (permit2612.value != amount) revert Permit2612AmountMismatch();
        try IPermitToken(token).permit(
            owner,
            address(PERMIT2),
            permit2612.value,
            permit2612.deadline,
            permit2612.v,
            permit2612.r,
            permit2612.s
        ) {} catch {}
    }

    function _require(uint256 amount, address owner, address to, uint256 validAfter) internal view {
        if (amount == 0) revert NothingToSettle();
        if (owner == address(0) || to == address(0)) revert NobodyToPay();
        if (block.timestamp < validAfter) revert TooEarly();
    }
}

contract ExactPermit2Proxy is Permit2Proxy {
    struct Witness {
        address to;
        uint256 validAfter;
    }

    string private constant WITNESS =
        "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)";
    bytes32 private constant WITNESS_TYPE = keccak256("Witness(address to,uint256 validAfter)");

    function settle(
        IPermit2.Permit calldata permit,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) external {
        _settle(permit, owner, witness, signature);
    }

    function settleWithPermit(
        Permit2612 calldata permit2612,
        IPermit2.Permit calldata permit,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) external {
        _approve(permit2612, permit.permitted.token, permit.permitted.amount, owner);
        _settle(permit, owner, witness, signature);
    }

    function _settle(
        IPermit2.Permit calldata permit,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) private {
        uint256 amount = permit.permitted.amount;
        _require(amount, owner, witness.to, witness.validAfter);
        PERMIT2.permitWitnessTransferFrom(
            permit,
            IPermit2.Transfer(witness.to, amount),
            owner,
            keccak256(abi.encode(WITNESS_TYPE, witness.to, witness.validAfter)),
            WITNESS,
            signature
        );
    }
}

contract UptoPermit2Proxy is Permit2Proxy {
    struct Witness {
        address to;
        address facilitator;
        uint256 validAfter;
    }

    string private constant WITNESS =
        "Witness witness)TokenPermissions(address token,uint256 amount)"
        "Witness(address to,address facilitator,uint256 validAfter)";
    bytes32 private constant WITNESS_TYPE = keccak256("Witness(address to,address facilitator,uint256 validAfter)");

    error NotTheFacilitator();
    error MoreThanPermitted();

    function settle(
        IPermit2.Permit calldata permit,
        uint256 amount,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) external {
        _settle(permit, amount, owner, witness, signature);
    }

    function settleWithPermit(
        Permit2612 calldata permit2612,
        IPermit2.Permit calldata permit,
        uint256 amount,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) external {
        _approve(permit2612, permit.permitted.token, permit.permitted.amount, owner);
        _settle(permit, amount, owner, witness, signature);
    }

    function _settle(
        IPermit2.Permit calldata permit,
        uint256 amount,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) private {
        if (msg.sender != witness.facilitator) revert NotTheFacilitator();
        if (amount > permit.permitted.amount) revert MoreThanPermitted();
        _require(amount, owner, witness.to, witness.validAfter);
        PERMIT2.permitWitnessTransferFrom(
            permit,
            IPermit2.Transfer(witness.to, amount),
            owner,
            keccak256(abi.encode(WITNESS_TYPE, witness.to, witness.facilitator, witness.validAfter)),
            WITNESS,
            signature
        );
    }
}
